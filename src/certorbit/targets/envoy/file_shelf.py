"""The shelf of mode `files`: in a file beside the ones that Envoy reads, so that they tell the same after a restore."""

import asyncio
import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from certorbit.errors import BadMaterial, LostRace, TargetRefused
from certorbit.model.balancer import Bundle
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.entry import ConfigID, EntryID, EntryUID, VersionID
from certorbit.model.material import PrivateKeyPEM
from certorbit.model.site import ClientCertificateMode
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts
from certorbit.ports.target import ShelfItem, ShelfState
from certorbit.target_settings import EnvoyTargetSettings
from certorbit.targets.envoy.private_files import replace_file, translate_errors

STATE_DIRECTORY: Final = ".certorbit"  # in the watched one: of the same file system; Envoy looks at no subdirectory


class FileShelf:
    """`ports.target.Shelf` in `<directory>/.certorbit/shelf.json`, mode 0600: it holds private keys as they are."""

    def __init__(self, settings: EnvoyTargetSettings) -> None:
        self._target = settings.name
        self._directory = Path(settings.directory)
        self._file = self._directory / STATE_DIRECTORY / "shelf.json"

    async def revision(self) -> int:
        return (await self.load()).revision

    async def load(self) -> ShelfState:
        return await asyncio.to_thread(self._load)

    async def change(
        self,
        *,
        at: int,
        put: Sequence[ShelfItem] = (),
        remove: Collection[str] = (),
        slots: Mapping[str, str] | None = None,
        policies: Mapping[str, ClientPolicy | None] | None = None,
    ) -> ShelfState:
        return await asyncio.to_thread(self._change, at, put, remove, slots or {}, policies or {})

    def _load(self) -> ShelfState:
        with translate_errors(self._target, self._directory):
            try:
                text = self._file.read_text(encoding="utf-8")
            except FileNotFoundError:
                self._directory.stat()  # A directory that isn't there is no empty shelf.
                return ShelfState(0, (), {})
        try:
            return _parse(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, BadMaterial) as error:
            raise TargetRefused(
                f"{self._target}: {self._file} isn't what the service wrote; restore it, or remove it and attach the"
                " listeners' certificates again.",
                subject=self._target,
            ) from error

    def _change(
        self,
        at: int,
        put: Sequence[ShelfItem],
        remove: Collection[str],
        slots: Mapping[str, str],
        policies: Mapping[str, ClientPolicy | None],
    ) -> ShelfState:
        with translate_errors(self._target, self._directory):
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            with self._lock():
                state = self._load()
                if state.revision != at:
                    raise LostRace(f"{self._target}: another process changed {self._file}.", subject=self._target)
                items = {item.name: item for item in state.items if item.name not in remove}
                items |= {item.name: item for item in put}
                used = {slot: item for slot, item in {**state.slots, **slots}.items() if item}
                checks = {scope: policy for scope, policy in {**state.policies, **policies}.items() if policy}
                after = ShelfState(
                    at + 1,
                    tuple(items[name] for name in sorted(items)),
                    dict(sorted(used.items())),
                    dict(sorted(checks.items())),
                )
                replace_file(self._file, _write(after), by_way_of=self._file.parent)
        return after

    @contextmanager
    def _lock(self) -> Iterator[None]:
        handle = os.open(self._file.with_name("lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise LostRace(f"{self._target}: another process changes {self._file}.", subject=self._target) from error
        finally:
            os.close(handle)


def _write(state: ShelfState) -> str:
    items = [
        {
            "name": item.name,
            "config": item.bundle.config,
            "entry_id": item.bundle.entry_id,
            "entry_uid": item.bundle.entry_uid,
            "version": item.bundle.version,
            "chain": item.bundle.chain_pem,
            "key": item.bundle.key.reveal(),
        }
        for item in state.items
    ]
    policies = {
        scope: {"mode": policy.mode.value, "bundle": policy.bundle, "ca": policy.ca_pem, "crl": policy.crl_pem}
        for scope, policy in state.policies.items()
    }
    written = {"revision": state.revision, "slots": dict(state.slots), "policies": policies, "items": items}
    return json.dumps(written, indent=1)


def _parse(written: Any) -> ShelfState:
    items = tuple(ShelfItem(name=str(item["name"]), bundle=_parse_bundle(item)) for item in written["items"])
    slots = {str(slot): str(name) for slot, name in written["slots"].items()}
    # What was written by a version of ours that had no policies yet has none.
    policies = {str(scope): _parse_policy(policy) for scope, policy in written.get("policies", {}).items()}
    return ShelfState(int(written["revision"]), items, slots, policies)


def _parse_policy(written: Mapping[str, Any]) -> ClientPolicy:
    return ClientPolicy(
        mode=ClientCertificateMode(written["mode"]),
        bundle=EntryID(str(written["bundle"])),
        ca_pem=str(written["ca"]),
        crl_pem=str(written["crl"]),
    )


def _parse_bundle(item: Mapping[str, Any]) -> Bundle:
    chain = str(item["chain"])
    return Bundle(
        config=ConfigID(str(item["config"])),
        entry_id=EntryID(str(item["entry_id"])),
        entry_uid=EntryUID(str(item["entry_uid"])),
        version=VersionID(str(item["version"])),
        chain_pem=chain,
        key=PrivateKeyPEM(str(item["key"])),
        facts=read_facts(read_certificates(chain)[0]),
    )
