"""What the service serves HTTPS with: which certificate comes first, and what a look does when something is wrong."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from certorbit.clock import SystemChance, SystemClock
from certorbit.errors import BadInput, BadMaterial
from certorbit.model.entry import Entry, Side, VersionID, key_context
from certorbit.model.identifiers import Identifier, IdentifierType
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts
from certorbit.storage.engine import make_engine
from certorbit.storage.migrate import migrate
from certorbit.storage.store import SQLStore
from certorbit.tls_settings import TLSSettings
from certorbit.workflows.service_tls import Served, ServiceTLS
from fakes.memory_keyring import MemoryKeyring
from make import Chain, PrivateKey, make_chain, make_crl
from records import make_configuration, make_entry
from unit.net.client_handshake import get_in

NOW = datetime.now(UTC)
FIRST, SECOND = (make_chain(names=["api.example.test"], key_index=index, now=NOW) for index in (50, 51))
CLIENTS = make_chain(names=["clients"], now=NOW)


class Scene:
    """A store with what the service may serve, and what is served of it."""

    def __init__(self, store: SQLStore, folder: Path) -> None:
        self.store, self.folder, self.keyring = store, folder, MemoryKeyring()

    def tls(self, **settings: object) -> ServiceTLS:
        return ServiceTLS(
            TLSSettings(**{"certificate": "prod/api", **settings}),  # type: ignore[arg-type]
            store=self.store,
            keyring=self.keyring,
            clock=SystemClock(),
            names=[Identifier(IdentifierType.DNS, "localhost")],
        )

    async def put(self, chain: Chain, version: str, *, sealed_for: str = "", side: Side = Side.SERVER) -> Entry:
        """Make the version the entry's current one, and the entry if there is none."""
        sealed = self.keyring.seal(chain.key_pem.encode(), context=key_context(VersionID(sealed_for or version)))
        entry = make_entry("api", uid="1", side=side)
        assert entry.current is not None
        facts = read_facts(read_certificates(chain.leaf_pem)[0])
        made = replace(entry.current, id=VersionID(version), chain_pem=chain.chain_pem, sealed_key=sealed, facts=facts)

        def write(tx: object) -> None:
            if tx.entries.find("prod", "api") is None:  # type: ignore[attr-defined]
                tx.entries.add(replace(entry, current=made))  # type: ignore[attr-defined]
            else:
                tx.entries.add_version(made)  # type: ignore[attr-defined]
                tx.entries.set_current(entry.uid, made.id)  # type: ignore[attr-defined]

        await self.store.write(write)
        return entry

    async def put_clients(self) -> Entry:
        entry = make_entry("clients", uid="2", side=Side.CLIENT_CA)
        assert entry.current is not None
        made = replace(entry.current, chain_pem=CLIENTS.issuers_pem, sealed_key=None)
        await self.store.write(lambda tx: tx.entries.add(replace(entry, current=made)))
        return entry

    async def delete(self, entry: Entry) -> None:
        await self.store.write(lambda tx: tx.entries.delete(entry.uid))

    def files(self, chain: Chain) -> dict[str, Path]:
        certificate, key = self.folder / "tls.pem", self.folder / "tls.key"
        certificate.write_text(chain.chain_pem)
        key.write_text(chain.traditional_key_pem)
        return {"certificate_file": certificate, "key_file": key}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    engine = make_engine(f"sqlite:///{tmp_path / 'tls.db'}")
    migrate(engine)
    store = SQLStore(engine, clock=SystemClock(), chance=SystemChance())
    structlog.reset_defaults()
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    yield Scene(store, tmp_path)
    await store.close()


async def look(tls: ServiceTLS) -> Served | None:
    """Return what a look lets be served; None: nothing new."""
    taken: list[Served] = []

    async def serve(served: Served) -> None:
        taken.append(served)

    await tls.look(serve)
    return taken[0] if taken else None


def is_of(served: Served | None, chain: Chain) -> bool:
    return served is not None and served.facts.fingerprint == fingerprint(chain)


def fingerprint(chain: Chain) -> str:
    return read_facts(chain.leaf).fingerprint


async def test_the_entry_takes_the_self_signed_certificates_place_and_each_new_version_the_ones_before(
    scene: Scene,
) -> None:
    tls = scene.tls()
    assert (await tls.start()).is_self_signed
    assert await look(tls) is None
    await scene.put(FIRST, "v1")
    served = await look(tls)
    assert is_of(served, FIRST)
    assert served is not None
    assert not served.is_self_signed
    assert await look(tls) is None
    await scene.put(SECOND, "v2")
    assert is_of(await look(tls), SECOND)


async def test_an_entry_that_is_there_at_the_start_is_served_at_once(scene: Scene) -> None:
    await scene.put(FIRST, "v1")
    assert is_of(await scene.tls(**scene.files(SECOND)).start(), FIRST)


async def test_a_deleted_entrys_last_version_stays_and_a_new_one_is_taken(scene: Scene) -> None:
    entry = await scene.put(FIRST, "v1")
    tls = scene.tls()
    await tls.start()
    await scene.delete(entry)
    with capture_logs() as lines:
        assert await look(tls) is None
        assert await look(tls) is None
    assert [line["event"] for line in lines] == ["tls.not_taken"]  # once, not at every look
    await scene.put(SECOND, "v2")
    assert is_of(await look(tls), SECOND)


async def test_a_version_that_cannot_be_served_changes_nothing_and_is_tried_again(scene: Scene) -> None:
    await scene.put(FIRST, "v1")
    tls = scene.tls()
    await tls.start()
    await scene.put(SECOND, "v2", sealed_for="another version")
    with capture_logs() as lines:
        assert await look(tls) is None
        assert await look(tls) is None
    assert [line["event"] for line in lines] == ["tls.not_taken"]
    await scene.put(SECOND, "v3")
    assert is_of(await look(tls), SECOND)


async def test_what_could_not_be_served_for_want_of_something_else_is_served_by_the_next_look(scene: Scene) -> None:
    tls = scene.tls()
    await tls.start()
    await scene.put(FIRST, "v1")

    async def serve(_: Served) -> None:
        raise OSError(24, "Too many open files")

    with pytest.raises(OSError, match="Too many open files"):
        await tls.look(serve)
    assert is_of(await look(tls), FIRST)


async def test_a_start_with_an_entry_that_cannot_be_served_has_the_self_signed_certificate(scene: Scene) -> None:
    await scene.put(FIRST, "v1", sealed_for="another version")
    assert (await scene.tls().start()).is_self_signed


async def test_a_bundle_of_cas_is_no_certificate_to_serve(scene: Scene) -> None:
    await scene.put(FIRST, "v1", side=Side.BACKEND_CA)
    assert (await scene.tls().start()).is_self_signed


async def test_changed_files_are_taken_and_broken_ones_are_not(scene: Scene) -> None:
    files = scene.files(FIRST)
    tls = scene.tls(certificate="", **files)
    assert is_of(await tls.start(), FIRST)
    files["certificate_file"].write_text(SECOND.chain_pem)  # halfway: the key is still the old one
    assert await look(tls) is None
    scene.files(SECOND)
    assert is_of(await look(tls), SECOND)
    files["key_file"].unlink()
    with pytest.raises(BadInput, match=r"tls\.key can't be read"):  # logged by whoever looks periodically
        await look(tls)


async def test_files_that_do_not_fit_are_a_clear_error_at_the_start(scene: Scene) -> None:
    files = scene.files(FIRST)
    files["key_file"].write_text(SECOND.key_pem)
    with pytest.raises(BadMaterial):
        await scene.tls(certificate="", **files).start()


async def test_when_other_clients_are_good_open_connections_do_not_go_on(scene: Scene) -> None:
    await scene.put(FIRST, "v1")
    tls = scene.tls(client_certificates="required", client_ca="prod/clients")
    with capture_logs() as lines:
        await tls.start()
    assert [line["event"] for line in lines] == ["tls.serving", "tls.no_client_ca"]  # nobody gets in yet
    entry = await scene.put_clients()
    served = await look(tls)
    assert served is not None
    assert served.has_new_clients
    await scene.put(SECOND, "v2")
    served = await look(tls)
    assert served is not None
    assert not served.has_new_clients
    await scene.delete(entry)
    served = await look(tls)
    assert served is not None
    assert served.has_new_clients  # from now on nobody gets in: what is not there is not trusted


async def test_optional_client_certificates_are_not_asked_for_while_nothing_can_check_them(scene: Scene) -> None:
    tls = scene.tls(client_certificates="optional", client_ca="prod/clients")
    assert (await tls.start()).context.verify_mode.name == "CERT_NONE"
    await scene.put_clients()
    served = await look(tls)
    assert served is not None
    assert served.context.verify_mode.name == "CERT_OPTIONAL"


async def test_clients_of_a_ca_that_the_file_itself_revokes_do_not_get_in(scene: Scene, tmp_path: Path) -> None:
    issuing, root = CLIENTS.issuers
    issuing_key, root_key = CLIENTS.issuer_keys
    shown, file = [CLIENTS.leaf, issuing], tmp_path / "clients.pem"

    def write_bundle(*revoked: int) -> None:
        lists = (crl_of(root, root_key, *revoked), crl_of(issuing, issuing_key))
        file.write_text(CLIENTS.issuers_pem + "".join(lists))

    write_bundle()
    tls = scene.tls(client_certificates="required", client_ca_file=file)
    assert get_in((await tls.start()).context, shown, CLIENTS.key, tmp_path)
    write_bundle(issuing.serial_number)
    with capture_logs() as lines:
        served = await look(tls)
    assert served is not None
    assert not get_in(served.context, shown, CLIENTS.key, tmp_path)
    assert [line["subjects"] for line in lines if line["event"] == "tls.client_cas_left_out"] == [
        (read_facts(issuing).subject,)
    ]


def crl_of(issuer: x509.Certificate, key: PrivateKey, *revoked: int) -> str:
    der = make_crl(issuer, key, revoked=revoked, start=NOW - timedelta(hours=1), end=NOW + timedelta(days=7))
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()
