"""What a publish leaves in buckets, and what it says when that can't be."""

import asyncio
from datetime import timedelta
from threading import Event

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from certorbit.errors import BadInput, NotFound, Publishing, Unreachable
from certorbit.model.entry import ConfigID, Side
from certorbit.model.site import ClientCertificateMode
from certorbit.ports.bucket import WantedBucket
from certorbit.services.publish import turn_of
from publishing.edge_buckets import KINDS, EdgeBucket, Places
from publishing.s3_server import Fault
from publishing.scene import PROD, READER, Scene, list_objects, read_manifest

CRL = "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----"


@pytest.fixture(params=KINDS)
def bucket(request: pytest.FixtureRequest, places: Places) -> EdgeBucket:
    return places.make(request.param)


async def add_shop(scene: Scene) -> None:
    await scene.put("shop", "www.example.com", "example.com")
    await scene.put("clients", "unused", side=Side.CLIENT_CA, crl=(CRL,))
    await scene.put("not-named", "internal.example.com")
    await scene.put_site(
        "shop",
        server_names=("www.example.com", "example.com"),
        ssl_certificate="shop",
        client_certificate="clients",
        client_certificate_mode=ClientCertificateMode.OPTIONAL,
    )


async def test_an_edge_reads_the_sites_with_chains_and_keys(scene: Scene, bucket: EdgeBucket) -> None:
    await add_shop(scene)

    report = await scene.publish(bucket)

    assert [(done.name, done.objects, done.written, done.removed) for done in report.buckets] == [("main", 6, 6, 0)]
    manifest, files = read_manifest(bucket), scene.read(bucket)
    assert (manifest["configuration"], manifest["version"], manifest["unavailable"]) == ("prod", 1, [])
    sites = [(site["id"], site["server_names"], site["ssl_certificate"]) for site in manifest["sites"]]
    assert sites == [
        ("__default__", ["__default__"], "placeholder"),
        ("shop", ["www.example.com", "example.com"], "shop"),
    ]
    assert manifest["sites"][1]["client_certificate_mode"] == "optional"
    assert sorted(files) == ["clients.crl", "clients.pem", "placeholder.pem", "shop.pem", "sites.json"]
    assert files["clients.pem"].decode() == scene.ca.cert_pem
    assert files["clients.crl"].decode() == CRL + "\n"
    assert files["shop.pem"].decode().startswith(scene.keys[1])


async def test_no_key_and_no_envelope_of_ours_is_in_a_bucket(scene: Scene, bucket: EdgeBucket) -> None:
    await add_shop(scene)
    await scene.publish(bucket)
    everything = [bytes(bucket.open_folder("prod").get("manifest.json").bytes()), *list_objects(bucket).values()]
    bodies = ["".join(key.splitlines()[1:-1]) for key in scene.keys]
    for content in everything:
        assert b"PRIVATE KEY" not in content
        assert b"envelope" not in content
        assert not [body for body in bodies if body.encode() in content.replace(b"\n", b"")]


async def test_a_second_publish_writes_the_manifest_alone(scene: Scene, bucket: EdgeBucket) -> None:
    await add_shop(scene)
    await scene.publish(bucket)
    before, objects = read_manifest(bucket), list_objects(bucket)
    scene.clock.advance(5)

    report = await scene.publish(bucket)

    assert report.buckets[0].written == 0
    assert list_objects(bucket) == objects
    after = read_manifest(bucket)
    assert after.pop("created_at") > before.pop("created_at")
    assert after == before


async def test_old_objects_stay_for_the_grace_time(scene: Scene, bucket: EdgeBucket) -> None:
    await add_shop(scene)
    await scene.publish(bucket, grace_seconds=60)
    old = list_objects(bucket)
    await scene.put("shop", "www.example.com")  # a new version
    scene.clock.advance(1000)  # how long they were in use says nothing

    second = await scene.publish(bucket, grace_seconds=60)
    assert second.buckets[0].written == 2
    assert old.items() <= list_objects(bucket).items()
    assert len(read_manifest(bucket)["retired"]) == 2

    scene.clock.advance(59)
    assert (await scene.publish(bucket, grace_seconds=60)).buckets[0].removed == 0
    scene.clock.advance(1)
    assert (await scene.publish(bucket, grace_seconds=60)).buckets[0].removed == 2
    assert len(list_objects(bucket)) == 6
    assert read_manifest(bucket)["retired"] == {}
    scene.read(bucket)


async def test_even_without_grace_time_the_manifest_before_keeps_its_objects(scene: Scene, bucket: EdgeBucket) -> None:
    await scene.publish(bucket, grace_seconds=0)
    before = list_objects(bucket)
    await scene.put("placeholder", "placeholder.invalid")
    await scene.publish(bucket, grace_seconds=0)
    assert before.items() <= list_objects(bucket).items()
    await scene.publish(bucket, grace_seconds=0)
    assert not before.keys() & list_objects(bucket).keys()


async def test_a_damaged_manifest_is_written_anew(scene: Scene, bucket: EdgeBucket) -> None:
    await scene.publish(bucket)
    for text in (
        b"[" * 100_000,
        b"{}",
        b"\xff",
        b'{"format": "certorbit-edge-bundle/1", "retired": {"x": "2026-01-01"}}',
    ):
        bucket.open_folder("prod").put("manifest.json", text)
        report = await scene.publish(bucket)
        assert report.buckets[0].written == 0  # sealed keys are found again by their names
        scene.read(bucket)


async def test_a_damaged_object_is_written_anew(scene: Scene, places: Places) -> None:
    bucket = places.make_file()
    await scene.publish(bucket)
    chain = read_manifest(bucket)["certificates"][0]["chain"]
    bucket.open_folder("prod/objects").put(chain, b"cut")
    assert (await scene.publish(bucket)).buckets[0].written == 1
    scene.read(bucket)


async def test_a_sealed_key_opens_in_its_own_place_only(scene: Scene, places: Places) -> None:
    bucket = places.make_file()
    await add_shop(scene)
    await scene.publish(bucket)
    manifest, objects = READER.load_bundle(bucket.open_folder("prod"))
    by_id = {certificate["id"]: certificate for certificate in manifest["certificates"]}
    swapped = objects[by_id["placeholder"]["key"]]
    with pytest.raises(InvalidTag):
        READER.open_key(manifest, by_id["shop"], swapped, scene.recipient)
    with pytest.raises(InvalidTag):
        READER.open_key({**manifest, "configuration": "test"}, by_id["placeholder"], swapped, scene.recipient)
    with pytest.raises(InvalidTag):
        READER.open_key(manifest, by_id["placeholder"], swapped, X25519PrivateKey.generate())


async def test_another_recipient_gets_keys_of_its_own(scene: Scene, places: Places) -> None:
    bucket = places.make_file()
    await scene.publish(bucket)
    scene.recipient = X25519PrivateKey.generate()
    assert (await scene.publish(bucket)).buckets[0].written == 1
    scene.read(bucket)


async def test_a_certificate_that_is_being_issued_is_said_to_be_missing(scene: Scene, places: Places) -> None:
    bucket = places.make_file()
    await scene.put("new")
    await scene.put_site("new", ssl_certificate="new")
    report = await scene.publish(bucket)
    assert report.unavailable == ["new"]
    assert read_manifest(bucket)["unavailable"] == ["new"]
    assert sorted(scene.read(bucket)) == ["placeholder.pem", "sites.json"]


async def test_without_a_recipient_nothing_is_written(scene: Scene, places: Places) -> None:
    bucket = places.make_file()
    with pytest.raises(BadInput, match="Set recipient_key in"):
        await scene.publish(bucket, recipient_key="")
    assert list(places.folder.glob("bucket-*")) == []


async def test_an_unknown_configuration_is_not_found(scene: Scene, places: Places) -> None:
    with pytest.raises(NotFound, match="no configuration 'test'"):
        await scene.make_publisher(places.make_file()).publish(ConfigID("test"), [])


async def test_one_publish_of_a_configuration_runs_at_a_time(scene: Scene, places: Places) -> None:
    bucket, held = places.make_s3(), Fault("PUT", "/manifest.json", until=Event())
    places.s3.faults.append(held)
    assert held.until is not None
    first = asyncio.create_task(scene.publish(bucket))
    assert await asyncio.to_thread(held.seen.wait, 20)

    with pytest.raises(Publishing, match="A publish of configuration 'prod' runs"):
        await scene.publish(bucket)
    await add_shop(scene)  # whoever changes the configuration doesn't wait
    held.until.set()

    assert (await first).buckets[0].objects == 2
    assert [site["id"] for site in read_manifest(bucket)["sites"]] == ["__default__"]  # as it was at first
    assert (await scene.publish(bucket)).buckets[0].objects == 6


async def test_the_turn_of_a_dead_publisher_ends_by_itself(scene: Scene, places: Places) -> None:
    bucket, now = places.make_file(), scene.clock.now()
    await scene.store.write(
        lambda tx: tx.named_turns.take(turn_of(PROD), "dead", now=now, until=now + timedelta(seconds=60))
    )
    with pytest.raises(Publishing):
        await scene.publish(bucket)
    scene.clock.advance(61)
    await scene.publish(bucket)


async def test_a_failed_publish_leaves_the_old_bundle_and_the_turn_free(scene: Scene, places: Places) -> None:
    bucket = places.make_s3()
    await scene.publish(bucket)
    before = scene.read(bucket)
    await add_shop(scene)
    places.s3.faults.append(Fault("PUT", "/manifest.json", status=403, code="AccessDenied"))
    with pytest.raises(BadInput, match=r"Written: none\. Not written: 'main'\. .*AccessDenied"):
        await scene.publish(bucket)
    assert scene.read(bucket) == before

    assert (await scene.publish(bucket)).buckets[0].written == 0  # all objects are there from the first try
    assert "shop.pem" in scene.read(bucket)


async def test_buckets_that_fail_are_told_from_those_that_are_written(scene: Scene, places: Places) -> None:
    good = places.make_file(name="good")
    dead = places.make_s3(name="dead")
    dead = EdgeBucket(dead.settings.model_copy(update={"endpoint_url": "http://127.0.0.1:9"}), dead.open_folder)
    with pytest.raises(Unreachable, match=r"Written: 'good'\. Not written: 'dead'\. The bucket 'dead' can't be"):
        await scene.publish(good, dead)
    assert sorted(scene.read(good)) == ["placeholder.pem", "sites.json"]


async def test_a_bucket_that_hangs_is_given_up(scene: Scene, places: Places) -> None:
    bucket, held = places.make_s3(name="slow"), Fault("PUT", "/manifest.json", until=Event())
    places.s3.faults.append(held)
    publisher = scene.make_publisher(bucket, limit_seconds=2.0)
    with pytest.raises(Unreachable, match="'slow' did not take all of it within 2 seconds"):
        await publisher.publish(PROD, [])
    assert held.until is not None
    held.until.set()
    await scene.publish(bucket)


@pytest.mark.parametrize("hangs", [False, True])
async def test_old_objects_that_can_not_be_removed_are_left_to_the_next_publish(
    scene: Scene, places: Places, *, hangs: bool
) -> None:
    bucket = places.make_s3()
    await scene.publish(bucket)
    await scene.put("placeholder", "placeholder.invalid")
    await scene.publish(bucket)
    scene.clock.advance(3600)
    name = bucket.settings.url.split("/")[2]  # objects are deleted by a POST to their bucket
    fault = Fault("POST", name, status=403, code="AccessDenied", until=Event() if hangs else None)
    places.s3.faults.append(fault)
    report = await scene.publish(bucket, limit_seconds=2.0)
    assert fault.seen.is_set()
    assert report.buckets[0].removed == 0
    if fault.until is not None:
        fault.until.set()

    await scene.publish(bucket)  # counts them as unused from now on
    scene.clock.advance(3600)
    await scene.publish(bucket)
    assert list_objects(bucket).keys() == read_manifest(bucket)["objects"].keys()
    scene.read(bucket)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("main", "file:///etc"),
        ("main", "file:///b/main/../other"),
        ("other", "file:///b/main"),
        ("", "file:///b/main"),
        ("main", ""),
        ("main", "s3://169.254.169.254/latest"),
    ],
)
async def test_no_other_place_than_those_of_the_settings_can_be_named(
    scene: Scene, places: Places, name: str, url: str
) -> None:
    main, other = places.make_file(name="main"), places.make_file(name="other")
    url = url.replace("/b/main", main.settings.url.removeprefix("file://"))
    with pytest.raises(BadInput, match=r"Allowed are 'main' \(file://.*'other'"):
        await scene.make_publisher(main, other).publish(PROD, [WantedBucket(name, url)])
    assert list(places.folder.glob("bucket-*")) == []


async def test_a_bucket_is_found_by_its_url_and_written_once(scene: Scene, places: Places) -> None:
    main, other = places.make_file(name="main"), places.make_file(name="other")
    url = other.settings.url
    wanted = [WantedBucket("what the client calls it", url + "/"), WantedBucket("other", url)]
    report = await scene.make_publisher(main, other).publish(PROD, wanted)
    assert [done.name for done in report.buckets] == ["other"]
    assert [done.name for done in (await scene.make_publisher(main, other).publish(PROD, [])).buckets] == ["main"]
    default = scene.make_publisher(main, other, default="other")
    assert [done.name for done in (await default.publish(PROD, [])).buckets] == ["other"]


async def test_without_buckets_the_setting_is_named(scene: Scene) -> None:
    with pytest.raises(BadInput, match=r"\[\[publish.buckets\]\]"):
        await scene.make_publisher().publish(PROD, [])
