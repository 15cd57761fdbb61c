"""The contract of `ports.bucket.Bucket`, kept by every kind; and what is special about single ones."""

import os
import stat
from pathlib import Path

import pytest

from certorbit.errors import BadInput, Publishing, Unreachable
from certorbit.ports.bucket import Bucket, StoredObject
from certorbit.publish_settings import BucketSettings
from certorbit.publishing.opening import open_bucket
from publishing.edge_buckets import KINDS, Places
from publishing.s3_server import Fault


@pytest.fixture(params=KINDS)
def bucket(request: pytest.FixtureRequest, places: Places) -> Bucket:
    return open_bucket(places.make(request.param).settings)


async def read(bucket: Bucket, name: str = "manifest.json", *, most_bytes: int = 100) -> StoredObject | None:
    return await bucket.read("prod", name, most_bytes=most_bytes)


async def test_an_empty_bucket_has_nothing(bucket: Bucket) -> None:
    assert await read(bucket) is None
    assert await bucket.list_sizes("prod/objects") == {}
    await bucket.remove("prod/objects", ["gone"])
    await bucket.remove("prod/objects", [])


async def test_what_was_written_is_listed_and_can_be_removed(bucket: Bucket) -> None:
    sizes = {f"object-{number}": number for number in range(1, 8)}
    for name, size in sizes.items():
        await bucket.write("prod/objects", name, b"x" * size)
    await bucket.write("prod/objects", "object-1", b"x")  # a repeat
    await bucket.write("prod/other", "object-8", b"x")
    await bucket.write("prod/objects/below", "object-9", b"x")
    assert await bucket.list_sizes("prod/objects") == sizes

    await bucket.remove("prod/objects", ["object-1", "gone", "object-7"])

    assert sorted(await bucket.list_sizes("prod/objects")) == [f"object-{number}" for number in range(2, 7)]
    assert sorted(await bucket.list_sizes("prod/other")) == ["object-8"]


async def test_an_object_is_replaced_if_it_is_still_the_one_that_was_read(bucket: Bucket) -> None:
    await bucket.replace("prod", "manifest.json", b"one", instead_of=None)
    first = await read(bucket)
    assert first is not None
    assert first.content == b"one"
    await bucket.replace("prod", "manifest.json", b"two", instead_of=first)

    with pytest.raises(Publishing, match="at the same time"):
        await bucket.replace("prod", "manifest.json", b"three", instead_of=first)
    with pytest.raises(Publishing, match="at the same time"):
        await bucket.replace("prod", "manifest.json", b"three", instead_of=None)

    second = await read(bucket)
    assert second is not None
    assert second.content == b"two"


async def test_an_object_that_is_larger_than_ours_can_be_is_refused(bucket: Bucket) -> None:
    await bucket.replace("prod", "manifest.json", b"x" * 101, instead_of=None)
    with pytest.raises(BadInput, match="larger than 100 bytes"):
        await read(bucket)


@pytest.mark.parametrize("kind", ["s3", "gs"])
async def test_a_bucket_that_is_not_there_is_named(places: Places, kind: str) -> None:
    made = places.make(kind).settings
    bucket = open_bucket(made.model_copy(update={"url": f"{kind}://no-such-bucket"}))
    with pytest.raises(BadInput, match=r"'main' .*does not exist"):
        await bucket.list_sizes("prod/objects")
    with pytest.raises(BadInput, match="does not exist"):
        await bucket.write("prod/objects", "name", b"x")


@pytest.mark.parametrize("kind", ["s3", "gs"])
async def test_a_bucket_that_nobody_answers_for_is_unreachable(places: Places, kind: str) -> None:
    settings = places.make(kind).settings.model_copy(update={"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(Unreachable, match="'main' can't be reached to write"):
        await open_bucket(settings).write("prod/objects", "name", b"x")


async def test_refused_credentials_are_told_with_the_providers_words(places: Places) -> None:
    places.s3.faults.append(Fault("PUT", "/name", status=403, code="SignatureDoesNotMatch"))
    bucket = open_bucket(places.make_s3().settings)
    with pytest.raises(BadInput, match=r"refuses to write: SignatureDoesNotMatch: as the test wants it"):
        await bucket.write("prod/objects", "name", b"x")


async def test_trouble_that_passes_is_tried_again(places: Places) -> None:
    places.s3.faults.append(Fault("PUT", "/name", status=503, code="SlowDown", times=2))
    bucket = open_bucket(places.make_s3().settings)
    await bucket.write("prod/objects", "name", b"x")
    assert await bucket.list_sizes("prod/objects") == {"name": 1}


async def test_a_replacement_whose_answer_was_lost_is_found_done(places: Places) -> None:
    fault = Fault("PUT", "/manifest.json")
    places.s3.faults.append(fault)
    bucket = open_bucket(places.make_s3().settings)
    await bucket.replace("prod", "manifest.json", b"one", instead_of=None)
    assert fault.seen.is_set()
    assert (await bucket.read("prod", "manifest.json", most_bytes=10)) is not None


async def test_a_store_without_conditions_is_written_all_the_same(places: Places) -> None:
    bucket = open_bucket(places.make_s3(conditional_writes=False).settings)
    await bucket.replace("prod", "manifest.json", b"one", instead_of=None)
    await bucket.replace("prod", "manifest.json", b"two", instead_of=None)
    found = await bucket.read("prod", "manifest.json", most_bytes=10)
    assert found is not None
    assert found.content == b"two"


def test_a_file_that_can_not_be_read_is_told_at_once(places: Places) -> None:
    settings = places.make_s3(ca_bundle=places.folder / "none.pem").settings
    with pytest.raises(BadInput, match="can't be opened"):
        open_bucket(settings)


class TestFiles:
    async def test_folders_and_files_are_for_us_alone(self, places: Places) -> None:
        made = places.make_file()
        bucket = open_bucket(made.settings)
        await bucket.write("prod/objects", "name", b"x")
        await bucket.replace("prod", "manifest.json", b"x", instead_of=None)
        root = Path(made.settings.url.removeprefix("file://"))
        for path in (root, *root.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    @pytest.mark.parametrize("place", ["prod", "prod/objects"])
    async def test_no_symlink_leads_out_of_the_bucket(self, places: Places, place: str) -> None:
        made = places.make_file()
        root, outside = Path(made.settings.url.removeprefix("file://")), places.folder / "outside"
        (root / place).parent.mkdir(parents=True)
        outside.mkdir()
        (root / place).symlink_to(outside)
        bucket = open_bucket(made.settings)

        with pytest.raises(BadInput, match="can't be used"):
            await bucket.write("prod/objects", "name", b"x")

        assert list(outside.iterdir()) == []

    @pytest.mark.parametrize("kind", ["symlink", "pipe", "folder"])
    async def test_a_manifest_that_is_no_file_is_not_read(self, places: Places, kind: str) -> None:
        made = places.make_file()
        path = Path(made.settings.url.removeprefix("file://")) / "prod" / "manifest.json"
        path.parent.mkdir(parents=True)
        secret = places.folder / "secret"
        secret.write_text("{}")
        if kind == "symlink":
            path.symlink_to(secret)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        with pytest.raises(BadInput, match="can't be used"):
            await read(open_bucket(made.settings))

    async def test_what_a_dead_writer_left_goes_and_a_living_ones_stays(self, places: Places) -> None:
        made = places.make_file()
        bucket = open_bucket(made.settings)
        await bucket.write("prod/objects", "name", b"x")
        objects = Path(made.settings.url.removeprefix("file://")) / "prod" / "objects"
        for name in (".new-dead", ".new-alive"):
            (objects / name).write_bytes(b"half")
        os.utime(objects / ".new-dead", (0, 0))

        await bucket.replace("prod", "manifest.json", b"x", instead_of=None)

        assert sorted(path.name for path in objects.iterdir()) == [".new-alive", "name"]

    async def test_a_place_that_can_not_be_a_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        bucket = open_bucket(BucketSettings(name="main", url=f"file://{tmp_path}/file"))
        with pytest.raises(BadInput, match="can't be used"):
            await bucket.write("prod/objects", "name", b"x")
