"""A desk for tests of client checks in deployments: certificates, bundles, and server groups that are written as
requests do."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from deployment_parts import PROD, Lab, make_lab

from certorbit.model.entry import Entry, EntryID, Side
from certorbit.model.site import ClientCertificateMode, Site, SiteID
from certorbit.ports.store import UnitOfWork
from certorbit.services import certificates, configuration_versions, sites
from certorbit.services.reattaching import Bounds
from certorbit.tls_settings import TLSSettings
from fakes.fake_target import FakeTarget

ON, OFF, OPTIONAL = ClientCertificateMode.ON, ClientCertificateMode.OFF, ClientCertificateMode.OPTIONAL


@dataclass
class Desk:
    """Opens labs with the certificates `www` and `next` and the bundles `clients` and `others`."""

    folder: Path
    template: Path
    opened: list[Lab] = field(default_factory=list)

    async def open(self, target: FakeTarget) -> Lab:
        place = self.folder / f"{len(self.opened)}.sqlite"
        lab = await make_lab(place, template=self.template, targets=[target])
        self.opened.append(lab)
        for name in ("www", "next"):
            await lab.add_entry(name)
        for name in ("clients", "others"):
            await add_bundle(lab, name)
        return lab


async def add_bundle(lab: Lab, name: str, *, crl: tuple[str, ...] = ()) -> Entry:
    """Store a client CA bundle."""
    made = await lab.add_entry(name)

    def work(tx: UnitOfWork) -> Entry:
        tx.entries.delete(made.uid)
        bundle = replace(made, side=Side.CLIENT_CA, crl=crl)
        tx.entries.add(bundle)
        return bundle

    return await lab.store.write(work)


def make_site(name: str, *, serves: str, mode: ClientCertificateMode = ON, checks_by: str = "clients") -> Site:
    return Site(
        config=PROD,
        id=SiteID(name),
        name=name,
        ssl_certificate=serves,
        client_certificate=checks_by,
        client_certificate_mode=mode,
    )


async def put_site(lab: Lab, site: Site) -> None:
    """Create or change a server group, as a request does."""

    def work(tx: UnitOfWork) -> None:
        write = {"by": "tester", "now": lab.clock.now(), "new_id": lab.new_id}
        if tx.sites.find(PROD, site.id) is None:
            sites.create(tx, site, **write)  # type: ignore[arg-type]
        else:
            sites.change(tx, PROD, site.id, lambda _: site, **write)  # type: ignore[arg-type]

    await lab.store.write(work)


async def delete_site(lab: Lab, name: str) -> None:
    now = lab.clock.now()
    await lab.store.write(lambda tx: sites.delete(tx, PROD, SiteID(name), by="tester", now=now, new_id=lab.new_id))


async def delete_entry(lab: Lab, name: str) -> None:
    now, own_tls = lab.clock.now(), TLSSettings()
    await lab.store.write(
        lambda tx: certificates.delete(tx, PROD, EntryID(name), by="tester", now=now, own_tls=own_tls)
    )


async def version_of(lab: Lab) -> int:
    """Return the number of the configuration's current version."""
    found = await lab.store.read(lambda tx: tx.configurations.find(PROD))
    assert found is not None
    return found.version


async def revert(lab: Lab, number: int) -> None:
    """Bring a version of the configuration back, as a key without limits does."""
    bounds = Bounds(by="tester", targets=[target.name for target in lab.targets], reaches=lambda _: True)
    now = lab.clock.now()
    await lab.store.write(
        lambda tx: configuration_versions.revert(tx, PROD, number, bounds=bounds, now=now, new_id=lab.new_id)
    )
