"""Joins what makes a backup, and what restores one: storage, the workflow engine's tables, the encrypted file.

Inside the encrypted stream are JSON lines, compressed:

    {"keyring": "…"}                        with --with-keyring: the keys of settings or key file
    {"table": "…", "columns": […], "rows": n}
    […] n times                             the rows
    {"end": true}
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import certorbit
from certorbit.app.database import check_database
from certorbit.app.ground import CHANCE, CLOCK
from certorbit.errors import BadInput, Broken, Refused
from certorbit.keys.sealed_stream import Lock, SealedWriter, Unlock, read_chunks, read_header
from certorbit.keys.sources import read_key_text
from certorbit.settings import Settings
from certorbit.storage.dump import Snapshot, open_snapshot
from certorbit.storage.engine import make_engine
from certorbit.storage.loading import check_unused, load
from certorbit.storage.migrate import check_known, migrate
from certorbit.workflows.engine import Engine
from certorbit.workflows.engine_schema import SCHEMA as WORKFLOW_SCHEMA

FORMAT: Final = 1
_BYTES_AT_ONCE: Final = 65_536  # decompressed


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup's header says. counts: rows by table. has_keyring: the keys of settings or key file are in it."""

    created_at: str
    database: str
    revision: str
    counts: Mapping[str, int]
    has_keyring: bool

    @classmethod
    def read(cls, header: Mapping[str, Any]) -> "Manifest":
        """Raises BadInput: the header is of another format, or damaged."""
        if header.get("version") != FORMAT:
            raise BadInput("The backup is of another format: a newer Certorbit made it. Restore it with that version.")
        try:
            counts = {str(name): int(count) for name, count in header["tables"].items()}
            words = {name: str(header[name]) for name in ("created_at", "database", "revision")}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadInput("The backup's header is damaged.") from None
        return cls(**words, counts=counts, has_keyring=header.get("keyring") is True)


def make_backup(settings: Settings, target: Path, *, lock: Lock, with_keyring: bool) -> Manifest:
    """Write the database as it is at this instant into a new file; services go on meanwhile.

    Raises:
        CertorbitError: the message says what is in the way; there is no file then.
    """
    check_database(settings)
    keys = read_key_text(settings) if with_keyring else None
    engine = make_engine(settings.url)
    try:
        with open_snapshot(engine, schemas=schemas_of(engine.dialect.name)) as snapshot:
            header = {
                "version": FORMAT,
                "created_at": CLOCK.now().isoformat(timespec="seconds"),
                "certorbit": certorbit.__version__,
                "database": snapshot.kind,
                "revision": snapshot.revision,
                "tables": snapshot.counts,
                "keyring": with_keyring,
            }
            with _new_file(target) as file:
                _write(SealedWriter(file, header, lock), _lines(snapshot, keys=keys))
            return Manifest.read(header)
    finally:
        engine.dispose()


def schemas_of(kind: str) -> Sequence[str | None]:
    """Return the schemas that hold our tables and the workflow engine's."""
    return (None,) if kind == "sqlite" else (None, WORKFLOW_SCHEMA)


class OpenBackup:
    """A backup's file, whole and checked before it is handed out."""

    def __init__(self, source: Path, *, unlock: Unlock) -> None:
        self._source = source
        with _reading(source) as file:
            header, _ = read_header(file)
            # Derived once: that takes its time by design.
            self._key = unlock.find_key(header["seal"])
        self.manifest = Manifest.read(header)
        self.keyring: str | None = None
        counts: dict[str, int] = {}
        for name, _columns, rows in self.tables():
            counts[name] = sum(1 for _ in rows)
        if counts != dict(self.manifest.counts):
            raise BadInput("The backup is damaged: its rows are not as many as its header says.")

    def tables(self) -> Iterator[tuple[str, Sequence[str], Iterator[str]]]:
        """Yield name, columns and rows of each table; the rows are to be read before the next table."""
        with _reading(self._source) as file:
            _, beginning = read_header(file)
            lines = _decompress(read_chunks(file, beginning, key=self._key))
            for line in lines:
                part = json.loads(line)
                if "keyring" in part:
                    self.keyring = part["keyring"]
                elif "table" in part:
                    rows = islice(lines, part["rows"])
                    yield part["table"], part["columns"], rows
                    for _ in rows:  # what the caller left
                        pass


def restore_backup(settings: Settings, backup: OpenBackup) -> None:
    """Load the backup into the settings' database, which must be new; nothing remains of a restore that failed.

    Raises:
        Refused: the database is not empty.
        CertorbitError: the message says what is in the way.
    """
    check_known(backup.manifest.revision)
    if settings.is_sqlite:
        _restore_file(settings, backup)
    else:
        _load(settings.url, backup)


def _load(url: str, backup: OpenBackup) -> None:
    engine = make_engine(url)
    schemas = schemas_of(engine.dialect.name)
    try:
        check_unused(engine, revision=backup.manifest.revision, schemas=schemas)
        migrate(engine, revision=backup.manifest.revision)
        workflows = Engine(database_url=url, clock=CLOCK, chance=CHANCE, max_in_flight=1)
        try:
            workflows.prepare()
            load(engine, backup.tables(), schemas=schemas)
            workflows.release_all()
        finally:
            workflows.close()
        migrate(engine)
    finally:
        engine.dispose()


def _restore_file(settings: Settings, backup: OpenBackup) -> None:
    """Load into a file beside the database's, and put that into its place when it is whole."""
    engine = make_engine(settings.url)
    try:
        check_unused(engine, revision=backup.manifest.revision, schemas=schemas_of("sqlite"))
        path = Path(str(engine.url.database)).absolute()
    finally:
        engine.dispose()
    beside = path.with_name(f"{path.name}.restoring")
    with ExitStack() as stack:
        for name in (beside, *_side_files(beside)):
            name.unlink(missing_ok=True)  # of a restore that was killed
            stack.callback(name.unlink, missing_ok=True)
        _load(f"sqlite:///{beside}", backup)
        if any(side.exists() and side.stat().st_size for side in _side_files(beside)):
            raise Broken("SQLite has left a part of the restored database in a second file.", subject=str(beside))
        for side in _side_files(path):
            side.unlink(missing_ok=True)
        _sync(beside)
        beside.replace(path)
        _sync(path.parent)


def _side_files(path: Path) -> Sequence[Path]:
    return [path.with_name(f"{path.name}-{ending}") for ending in ("wal", "shm")]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines(snapshot: Snapshot, *, keys: str | None) -> Iterator[str]:
    if keys is not None:
        yield json.dumps({"keyring": keys})
    for table in snapshot.tables():
        yield json.dumps({"table": table.name, "columns": table.columns, "rows": snapshot.counts[table.name]})
        yield from table.rows
    yield json.dumps({"end": True})


def _write(writer: SealedWriter, lines: Iterable[str]) -> None:
    compressor = zlib.compressobj(6)
    for line in lines:
        writer.write(compressor.compress(line.encode() + b"\n"))
    writer.write(compressor.flush())
    writer.close()


def _decompress(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines. Raises BadInput: the stream has no end."""
    decompressor, waiting = zlib.decompressobj(), b""
    for chunk in chunks:
        rest = chunk
        while rest:
            waiting += decompressor.decompress(rest, _BYTES_AT_ONCE)
            rest = decompressor.unconsumed_tail
            *lines, waiting = waiting.split(b"\n")
            for line in lines:
                yield line.decode()
    *lines, _ = (waiting + decompressor.flush()).split(b"\n")
    for line in lines:
        yield line.decode()
    if not decompressor.eof:
        raise BadInput("The backup is cut off.")


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file that gets its name when it is whole and on the disk. Raises Refused: there is one."""
    part = path.with_name(f".{path.name}.part")
    try:
        if path.exists():
            raise Refused(f"{path} is there already; name a new file.", subject=str(path))
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # never over a file that came meanwhile
            _sync(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(f"{path} can't be written: {error.strerror}.", subject=str(path)) from error


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BadInput(f"The backup {path} can't be read: {error.strerror}.", subject=str(path)) from error
