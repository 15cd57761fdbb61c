"""Edges that read while others publish never see half; the program in docs/publish.md does what it says."""

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from certorbit.errors import Publishing
from certorbit.ports.store import UnitOfWork
from certorbit.services.publish import turn_of
from publishing.edge_buckets import EdgeBucket, Places
from publishing.s3_server import Fault
from publishing.scene import PROD, READER, ROOT, Scene, write_private

PUBLISHES = 30
ENTRIES = ("one", "two", "three")


async def change(scene: Scene, generation: int) -> None:
    """Give every certificate and every site the generation's name, in one transaction."""
    name = f"g{generation}.example.com"

    def work(tx: UnitOfWork) -> None:
        for entry_id in ENTRIES:
            scene.add(tx, entry_id, name)

    await scene.store.write(work)
    for entry_id in ENTRIES:
        await scene.put_site(entry_id, server_names=(entry_id,), ssl_certificate=entry_id)


def read_once(scene: Scene, bucket: EdgeBucket) -> str:
    """Return the generation that the edge sees; fails if it is half."""
    manifest, objects = READER.load_bundle(bucket.open_folder("prod"), 10)
    READER.make_files(manifest, objects, scene.recipient)
    ours = [certificate for certificate in manifest["certificates"] if certificate["id"] in ENTRIES]
    names = {name for certificate in ours for name in certificate["names"]}
    assert len(ours) == len(ENTRIES)
    assert len(names) == 1, names
    return str(names.pop())


@pytest.mark.parametrize("kind", ["file", "s3"])
async def test_a_reader_never_sees_half_a_bundle_during_thirty_publishes(
    scene: Scene, places: Places, kind: str
) -> None:
    bucket = places.make(kind)
    await change(scene, 0)
    await scene.publish(bucket)
    seen: list[str] = []
    done = asyncio.Event()

    async def read_all_the_time() -> None:
        while not done.is_set():
            seen.append(await asyncio.to_thread(read_once, scene, bucket))

    readers = [asyncio.create_task(read_all_the_time()) for _ in range(2)]
    removed = 0
    for generation in range(1, PUBLISHES + 1):
        await change(scene, generation)
        scene.clock.advance(1)
        removed += (await scene.publish(bucket, grace_seconds=10)).buckets[0].removed
    done.set()
    await asyncio.gather(*readers)

    assert len(set(seen)) > 3, "the readers were too slow to show anything"
    assert removed > 0
    assert read_once(scene, bucket) == f"g{PUBLISHES}.example.com"


def list_names(bucket: EdgeBucket) -> set[Path]:
    return set(Path(bucket.settings.url.removeprefix("file://"), "prod", "objects").iterdir())


@pytest.mark.crash
async def test_a_publisher_that_is_killed_leaves_a_whole_bundle(scene: Scene, places: Places) -> None:
    bucket = places.make_file()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    for round_ in range(6):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("publish_child.py")),
            str(places.folder / f"child-{round_}.db"),
            bucket.settings.url.removeprefix("file://"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
        try:
            assert child.stderr is not None
            async with asyncio.timeout(60):
                for _ in range(2 + round_):
                    assert await child.stderr.readline() == b"begins\n"
                before = list_names(bucket)
                while list_names(bucket) == before:  # in the middle of writing objects, or of removing old ones
                    await asyncio.sleep(0)
        finally:
            child.kill()
            await child.communicate()
        READER.load_bundle(bucket.open_folder("prod"), 1)  # every object is there, with its digest

    await change(scene, 1)
    await scene.publish(bucket)
    assert read_once(scene, bucket) == "g1.example.com"


async def test_the_program_of_the_documents_writes_what_an_edge_needs(
    scene: Scene, places: Places, tmp_path: Path
) -> None:
    await change(scene, 7)
    key_file = tmp_path / "edge.key"
    key_file.write_text(write_private(scene.recipient))
    for bucket in (places.make_file(), places.make_s3()):
        await scene.publish(bucket)
        folder = tmp_path / bucket.settings.scheme
        folder.mkdir()
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": places.s3.url,
            "AWS_ALLOW_HTTP": "true",
        }
        program = [sys.executable, str(ROOT / "examples" / "read_edge_bundle.py")]
        done = await asyncio.to_thread(
            subprocess.run,
            [*program, f"{bucket.settings.url}/prod", str(key_file), str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        names = ["one.pem", "placeholder.pem", "sites.json", "three.pem", "two.pem"]
        assert sorted(path.name for path in folder.iterdir()) == names
        text = (folder / "one.pem").read_text()
        assert text.startswith("-----BEGIN PRIVATE KEY-----")
        assert text.count("BEGIN CERTIFICATE") == 2


def test_the_document_shows_the_program_as_it_is() -> None:
    program = (ROOT / "examples" / "read_edge_bundle.py").read_text()
    assert f"```python\n{program}```" in (ROOT / "docs" / "publish.md").read_text()


async def test_a_turn_that_is_over_does_not_overwrite_a_newer_manifest(scene: Scene, places: Places) -> None:
    """A publisher whose machine slept between its objects and its manifest finds that somebody else went on."""
    bucket = places.make_s3()
    await change(scene, 0)
    await scene.publish(bucket)
    await change(scene, 1)
    sleeping = Fault("PUT", "/manifest.json", until=Event())
    assert sleeping.until is not None
    places.s3.faults.append(sleeping)
    late = asyncio.create_task(scene.publish(bucket))
    assert await asyncio.to_thread(sleeping.seen.wait, 20)
    scene.clock.advance(61)  # its turn is over
    await change(scene, 2)
    await scene.publish(bucket)
    sleeping.until.set()

    with pytest.raises(Publishing, match="at the same time"):
        await late
    assert read_once(scene, bucket) == "g2.example.com"
    now = scene.clock.now()
    assert await scene.store.write(
        lambda tx: tx.named_turns.take(turn_of(PROD), "next", now=now, until=now + timedelta(seconds=60))
    )
