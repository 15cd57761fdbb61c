"""The outlet of mode `files`: one resource file per secret in a directory that Envoy watches.

Envoy reads the files again when one is moved into the directory (`path_config_source` with `watched_directory`).
Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/security/secret, "Key rotation".
"""

import asyncio
import grp
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from stat import S_IMODE
from typing import Any, Final

import structlog

from certorbit.clock import Clock
from certorbit.errors import BadMaterial, DeployFailed, TargetRefused
from certorbit.model.material import Material, PrivateKeyPEM
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts
from certorbit.pki.selfsigned import make_placeholder
from certorbit.ports.target import Finding, Grade
from certorbit.target_settings import EnvoyTargetSettings
from certorbit.targets.envoy.file_shelf import STATE_DIRECTORY
from certorbit.targets.envoy.messages import SECRET_TYPE, Secret, TLSCertificate, ValidationContext
from certorbit.targets.envoy.private_files import replace_file, translate_errors
from certorbit.targets.envoy.session import Catalog

log = structlog.get_logger(__name__)

_NO_GROUP: Final = -1


class WatchedFiles:
    """An `Outlet` that writes `<directory>/<secret>.json`. Envoy says nothing to that: the proof shows what it does."""

    def __init__(self, settings: EnvoyTargetSettings, *, clock: Clock) -> None:
        self._target = settings.name
        self._mode = int(settings.file_mode, 8)
        self._group = settings.file_group
        self._directory = Path(settings.directory)
        self._state_directory = self._directory / STATE_DIRECTORY
        self._clock = clock
        self._placeholder: Material | None = None

    async def placeholder(self) -> Material:
        if self._placeholder is None:
            self._placeholder = await asyncio.to_thread(self._read_placeholder)
        return self._placeholder

    async def start(self) -> None:
        """There is nothing to open."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def show(self, catalog: Catalog) -> None:
        await asyncio.to_thread(self._write_all, catalog, await self.placeholder())

    async def confirm(self, secrets: Sequence[Secret]) -> str:  # noqa: ARG002 - nobody to ask
        return ""

    async def confirm_check(self, secret: Secret, *, beside: Collection[str]) -> str:  # noqa: ARG002 - nobody to ask
        return ""

    def find_unchecking(self, name: str, *, beside: Collection[str]) -> Sequence[str]:  # noqa: ARG002 - none is known
        return ()

    async def find_stale(self, catalog: Catalog) -> Collection[str]:
        return await asyncio.to_thread(self._find_stale, catalog)

    async def check(self) -> Sequence[Finding]:
        try:
            await asyncio.to_thread(self._try_writing)
        except DeployFailed as error:
            return [Finding("write", Grade.FAILED, error.message)]
        return [Finding("write", Grade.OK, f"Files can be written in {self._directory}.")]

    def _write_all(self, catalog: Catalog, placeholder: Material) -> None:
        with translate_errors(self._target, self._directory):
            self._state_directory.mkdir(mode=0o700, exist_ok=True)
            if not self._placeholder_file.exists():
                replace_file(self._placeholder_file, _write_placeholder(placeholder), by_way_of=self._state_directory)
            group = self._find_group()
            for name, secret in catalog.items():
                path, text = self._path(name), _write(secret)
                if not self._is_written(path, text, group):
                    replace_file(path, text, by_way_of=self._state_directory, mode=self._mode, group=group)
                    log.info("envoy.file_written", target=self._target, file=str(path), version=secret.version)

    def _is_written(self, path: Path, text: str, group: int) -> bool:
        try:
            seen = path.stat()
            has_rights = S_IMODE(seen.st_mode) == self._mode and group in {_NO_GROUP, seen.st_gid}
            return has_rights and path.read_text(encoding="utf-8") == text
        except (FileNotFoundError, UnicodeDecodeError):
            return False

    def _find_stale(self, catalog: Catalog) -> Collection[str]:
        with translate_errors(self._target, self._directory):
            return {name for name, secret in catalog.items() if _read(self._path(name)) != _write(secret)}

    def _try_writing(self) -> None:
        with translate_errors(self._target, self._directory):
            self._find_group()
            # Not in `.certorbit`, which may not be there yet, and not by a rename: Envoy isn't to be woken.
            probe = self._directory / f".{STATE_DIRECTORY.strip('.')}-check"
            probe.touch(mode=0o600)
            probe.unlink()

    def _find_group(self) -> int:
        if not self._group:
            return _NO_GROUP
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError as error:
            raise TargetRefused(
                f"{self._target}: this system has no group {self._group!r}; see `file_group`.", subject=self._target
            ) from error

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    @property
    def _placeholder_file(self) -> Path:
        return self._state_directory / "placeholder.json"

    def _read_placeholder(self) -> Material:
        """Return the placeholder of the run before, so that files aren't written anew at every start."""
        with translate_errors(self._target, self._directory):
            text = _read(self._placeholder_file)
        try:
            written = json.loads(text)
            chain, key = str(written["chain"]), PrivateKeyPEM(str(written["key"]))
            return Material(chain_pem=chain, key=key, facts=read_facts(read_certificates(chain)[0]))
        except (ValueError, KeyError, TypeError, BadMaterial):
            return make_placeholder(now=self._clock.now())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _write(secret: Secret) -> str:
    """Return the secret as Envoy reads it from a file: a DiscoveryResponse in JSON."""
    resource = {"@type": SECRET_TYPE, "name": secret.name, **_write_content(secret.content)}
    return json.dumps({"version_info": secret.version, "resources": [resource]}, indent=1)


def _write_content(content: TLSCertificate | ValidationContext) -> Mapping[str, Any]:
    if isinstance(content, TLSCertificate):
        return {
            "tls_certificate": {
                "certificate_chain": {"inline_string": content.chain_pem},
                "private_key": {"inline_string": content.key.reveal()},
            }
        }
    context: dict[str, Any] = {}
    if content.ca_pem:
        context["trusted_ca"] = {"inline_string": content.ca_pem}
    if content.crl_pem:
        context["crl"] = {"inline_string": content.crl_pem}
    if content.leaf_hashes:
        context["verify_certificate_hash"] = list(content.leaf_hashes)
    return {"validation_context": context}


def _write_placeholder(placeholder: Material) -> str:
    assert placeholder.key is not None
    return json.dumps({"chain": placeholder.chain_pem, "key": placeholder.key.reveal()})
