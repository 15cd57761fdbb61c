"""Lists of CA bundles: newer ones come from a real web server, and reach the listeners that check clients by them."""

import asyncio
import sys
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from certorbit.model.balancer import ListenerKey
from certorbit.model.client_policy import PolicyMark
from certorbit.model.deployment import Attachment, AttachmentID, Stage, Wanted
from certorbit.model.entry import Entry, EntryID, EntryUID, Side, Source, Version, VersionID
from certorbit.model.operation import OperationKind
from certorbit.model.site import ClientCertificateMode, Site, SiteID
from certorbit.pki.crl_check import read_crl
from certorbit.pki.crl_signers import FREE_TRIES, MOST_MORE_TRIES
from certorbit.pki.read import read_facts
from certorbit.workflows.bundle_look import EVERY, BundleLook
from make import NOW, crl_scope, distribution_points, make_certificate, make_crl, make_key, pem
from revocation.revocation_scene import PROD, Scene

KEY, MIDDLE_KEY, OTHER_KEY = (make_key(index=900 + number) for number in range(3))
ROOT = make_certificate(key=KEY, subject="CN=Root", is_ca=True, days=3650)


def crl_of(scene: Scene, *, number: int, url: str = "", key: Any = KEY, **scope: bool) -> bytes:
    """Return a list of ROOT's, valid now. url: where it says that it is published."""
    now = scene.clock.now()
    extensions = [(crl_scope(url, **scope), True)] if url else []
    return make_crl(
        ROOT,
        key,
        number=number,
        start=now - timedelta(hours=1),
        end=now + timedelta(days=7),
        extensions=extensions,
    )


def pem_of(der: bytes) -> str:
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()


async def add(scene: Scene, name: str, *authorities: x509.Certificate, crl: tuple[str, ...] = ()) -> None:
    """Store a client CA bundle; without authorities a certificate to serve."""
    uid, shown = EntryUID(f"uid-{name}"), authorities or (ROOT,)
    version = Version(
        id=VersionID(f"v-{name}"),
        entry_uid=uid,
        created_at=NOW,
        source=Source.UPLOADED,
        chain_pem=pem(*shown),
        sealed_key=None,
        facts=read_facts(shown[0]),
        le_hash="",
        issuer_name="",
    )
    entry = Entry(
        uid=uid,
        config=PROD,
        id=EntryID(name),
        side=Side.CLIENT_CA if authorities else Side.SERVER,
        source=Source.UPLOADED,
        le_auto_renew=True,
        le_auto_replace=True,
        identifiers=(),
        provider_links=(),
        crl=crl,
        input_digest="",
        uploaded=NOW,
        current=version,
    )
    await scene.store.write(lambda tx: tx.entries.add(entry))


async def look(scene: Scene) -> int:
    """Let an hour pass and the look come round. Returns: how many bundles got newer lists."""
    scene.clock.advance(EVERY.total_seconds())
    return await BundleLook(store=scene.store, source=scene.lists, clock=scene.clock, new_id=scene.new_id).sweep()


async def numbers(scene: Scene) -> list[int | None]:
    """Return the numbers of the lists that the bundle `clients` has."""
    bundle = await scene.store.read(lambda tx: tx.entries.find(PROD, EntryID("clients")))
    assert bundle is not None
    return [read_crl(text.encode()).number for text in bundle.crl]


async def test_a_newer_list_takes_the_place_of_the_held_one(scene: Scene) -> None:
    url = scene.web.url("/root.crl")
    await add(scene, "clients", ROOT, crl=(pem_of(crl_of(scene, number=1, url=url)),))
    scene.web.say("/root.crl", crl_of(scene, number=2, url=url))
    assert (await look(scene), await numbers(scene)) == (1, [2])
    assert (await look(scene), await numbers(scene)) == (0, [2])


@pytest.mark.parametrize("what", ["older", "forged", "of-a-part", "gone"])
async def test_a_list_that_is_no_better_leaves_the_held_one(scene: Scene, what: str) -> None:
    url = scene.web.url("/root.crl")
    await add(scene, "clients", ROOT, crl=(pem_of(crl_of(scene, number=5, url=url)),))
    offered = {
        "older": crl_of(scene, number=4, url=url),
        "forged": crl_of(scene, number=6, url=url, key=OTHER_KEY),
        "of-a-part": crl_of(scene, number=6, url=url, user=True),
    }
    if what in offered:
        scene.web.say("/root.crl", offered[what])
    assert (await look(scene), await numbers(scene)) == (0, [5])


async def test_a_bundle_without_lists_gets_them_only_when_all_can_be_had(scene: Scene) -> None:
    """The root's list is named by the CA under it; that one's own is named by nobody here."""
    point = distribution_points([scene.web.url("/root.crl")])
    middle = make_certificate(
        key=MIDDLE_KEY, subject="CN=Middle", issuer=ROOT, issuer_key=KEY, is_ca=True, extensions=[point]
    )
    named = make_certificate(key=KEY, subject="CN=Root", is_ca=True, days=3650, extensions=[point])
    scene.web.say("/root.crl", crl_of(scene, number=3))
    await add(scene, "clients", middle, ROOT)
    assert (await look(scene), await numbers(scene)) == (0, [])
    await scene.store.write(lambda tx: tx.entries.delete(EntryUID("uid-clients")))
    await add(scene, "clients", named)
    assert (await look(scene), await numbers(scene)) == (1, [3])


async def test_listeners_that_check_clients_by_the_bundle_get_the_newer_list(scene: Scene) -> None:
    url = scene.web.url("/root.crl")
    await add(scene, "clients", ROOT, crl=(pem_of(crl_of(scene, number=1, url=url)),))
    await add(scene, "www")
    mark = PolicyMark(mode=ClientCertificateMode.ON, bundle=EntryID("clients"), digest="of the list before")
    site = Site(
        config=PROD,
        id=SiteID("shop"),
        name="Shop",
        ssl_certificate="www",
        client_certificate="clients",
        client_certificate_mode=ClientCertificateMode.ON,
    )
    attachment = Attachment(
        id=AttachmentID("one"),
        listener=ListenerKey("edge", "", "edge", "https", 443),
        provider="link11",
        kind="haproxy",
        config=PROD,
        entry_id=EntryID("www"),
        entry_uid=EntryUID("uid-www"),
        is_default=False,
        wanted=Wanted.ATTACHED,
        promised=True,
        created_at=NOW,
        updated_at=NOW,
        stage=Stage.PROVEN,
        version=VersionID("v-www"),
        client_policy=mark,
    )
    await scene.store.write(lambda tx: (tx.sites.put(site), tx.attachments.add(attachment)))
    assert (await look(scene), await scene.operations()) == (0, []), "nothing newer, nothing to do"
    scene.web.say("/root.crl", crl_of(scene, number=2, url=url))
    scene.lists = scene.make_lists()
    scene.clock.advance(timedelta(days=1).total_seconds())
    assert await look(scene) == 1
    [operation] = await scene.operations()
    assert (operation.entry_id, operation.kind) == ("www", OperationKind.DEPLOY)


async def test_one_node_looks_in_an_hour(scene: Scene) -> None:
    url = scene.web.url("/root.crl")
    await add(scene, "clients", ROOT, crl=(pem_of(crl_of(scene, number=1, url=url)),))
    assert await look(scene) == 0
    scene.web.say("/root.crl", crl_of(scene, number=2, url=url))
    scene.clock.advance(60)
    again = BundleLook(store=scene.store, source=scene.lists, clock=scene.clock, new_id=scene.new_id)
    assert (await again.sweep(), await numbers(scene)) == (0, [1])


async def test_what_a_bundle_may_make_costly_is_not_done_on_the_event_loop(scene: Scene) -> None:
    url = scene.web.url("/root.crl")
    await add(scene, "clients", ROOT, crl=(pem_of(crl_of(scene, number=1, url=url)),))
    scene.web.say("/root.crl", crl_of(scene, number=2, url=url))
    called: set[str] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_name)

    sys.setprofile(note)  # of this thread alone
    try:
        assert await look(scene) == 1
    finally:
        sys.setprofile(None)
    assert {"sweep", "_look_at"} <= called
    assert not called & {"find_places", "read_facts", "check_signed_by", "read_crl", "write_crls"}


async def test_a_bundle_whose_urls_never_answer_holds_up_no_other_one(scene: Scene) -> None:
    held, url = asyncio.Event(), scene.web.url("/root.crl")

    async def say_nothing(_writer: asyncio.StreamWriter, _web: object) -> None:
        await held.wait()

    scene.web.answers["/silent.crl"] = say_nothing
    silent = scene.web.url("/silent.crl")
    await add(scene, "another", ROOT, crl=(pem_of(crl_of(scene, number=1, url=silent)),))
    await add(scene, "clients", ROOT, crl=(pem_of(crl_of(scene, number=1, url=url)),))
    scene.web.say("/root.crl", crl_of(scene, number=2, url=url))
    scene.clock.advance(EVERY.total_seconds())
    look_at_all = BundleLook(
        store=scene.store, source=scene.lists, clock=scene.clock, new_id=scene.new_id, bundle_seconds=1.0
    )
    assert (await look_at_all.sweep(), await numbers(scene)) == (1, [2])
    held.set()


async def test_a_bundle_that_it_cannot_be_told_of_whose_its_lists_are_keeps_them(scene: Scene) -> None:
    """Stored before such ones were refused: trying all of its CAs each hour would take the time of everything else."""
    keys = [make_key(index=1000 + number) for number in range(FREE_TRIES + MOST_MORE_TRIES + 1)]
    many = [make_certificate(key=key, subject="CN=Root", is_ca=True) for key in keys]
    await add(scene, "clients", *many, crl=(pem_of(crl_of(scene, number=1, key=keys[-1])),))
    with capture_logs() as logs:
        assert (await look(scene), await numbers(scene)) == (0, [1])
    assert [line["event"] for line in logs if "bundle" in line["event"]] == ["bundle.unreadable"]


async def test_lists_that_are_too_long_to_be_kept_with_a_bundle_are_not_taken(scene: Scene) -> None:
    url = scene.web.url("/root.crl")
    await add(scene, "clients", ROOT, crl=(pem_of(crl_of(scene, number=1, url=url)),))
    scene.web.say("/root.crl", crl_of(scene, number=2, url=url))
    for most_bytes, kept in ((100, [1]), (100_000, [2])):
        scene.clock.advance(EVERY.total_seconds())
        await BundleLook(
            store=scene.store, source=scene.lists, clock=scene.clock, new_id=scene.new_id, most_bytes=most_bytes
        ).sweep()
        assert await numbers(scene) == kept
