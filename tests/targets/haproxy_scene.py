"""What the tests of the HAProxy target share: a running HAProxy, its target, and looks at memory, files and leaves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.model.balancer import Bundle, Copy, ListenerKey
from certorbit.ports.target import Grade
from certorbit.target_settings.haproxy import HAProxyTargetSettings
from certorbit.targets.haproxy.target import HAProxyTarget
from targets.haproxy_bench import keys_of, make_target
from targets.haproxy_process import RunningHAProxy, TLSListener, settings_for, shake_hands, start_haproxy


@dataclass(frozen=True, kw_only=True)
class Scene:
    """first, second: keys of the two listeners."""

    haproxy: RunningHAProxy
    settings: HAProxyTargetSettings
    target: HAProxyTarget
    first: ListenerKey
    second: ListenerKey

    @property
    def listener(self) -> TLSListener:
        return self.haproxy.listeners[0]

    @property
    def crt_list(self) -> Path:
        return Path(self.listener.crt_list)

    @property
    def default_file(self) -> Path:
        return Path(self.haproxy.directory) / self.listener.name / "default.pem"

    async def install(self, bundle: Bundle, *, at: ListenerKey | None = None) -> Copy:
        return await self.target.install(bundle, scope=self.target.scope_of(at or self.first), present=None)

    async def put_on(self, bundle: Bundle, *, at: ListenerKey | None = None) -> Copy:
        copy = await self.install(bundle, at=at)
        await self.target.attach(at or self.first, copy, instead_of="")
        return copy

    async def served(self, name: str = "") -> str:
        """Return the fingerprint of the first listener's leaf for the name."""
        return await shake_hands(self.listener.port, name)

    async def commit_by_hand(self, path: str, pem: str) -> None:
        """Do what a run does before its file is written."""
        assert "ransaction created" in await self.haproxy.ask(f"set ssl cert {path}", pem)
        assert "Success!" in await self.haproxy.ask(f"commit ssl cert {path}")

    async def complaints(self) -> list[str]:
        """Return the messages of the check that aren't OK."""
        return [finding.message for finding in await self.target.check() if finding.grade is not Grade.OK]


@asynccontextmanager
async def open_scene(folder: Path, **changed: object) -> AsyncIterator[Scene]:
    """Run HAProxy with two listeners. changed: other values in the settings."""
    async with start_haproxy(folder) as haproxy:
        yield make_scene(haproxy, **changed)


def make_scene(haproxy: RunningHAProxy, **changed: object) -> Scene:
    settings = settings_for(haproxy, **changed)
    first, second = keys_of(settings)[:2]
    return Scene(haproxy=haproxy, settings=settings, target=make_target(settings), first=first, second=second)


def pem_of(bundle: Bundle) -> str:
    return bundle.key.reveal() + bundle.chain_pem


def leaf_in(path: str | Path) -> str:
    """Return the fingerprint of the leaf in a PEM file."""
    leaf = x509.load_pem_x509_certificate(Path(path).read_bytes())
    return sha256(leaf.public_bytes(Encoding.DER)).hexdigest()
