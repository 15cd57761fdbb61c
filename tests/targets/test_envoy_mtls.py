"""Mutual TLS between proxies and the SDS server: who gets secrets, and files that change."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.secret.v3 import sds_pb2_grpc

from certorbit.clock import SystemClock
from certorbit.errors import BadInput
from make import make_certificate, make_key, pem, write_key
from targets.envoy_bench import HTTPS, make_settings, make_target, start_envoy, start_sds
from targets.envoy_process import ClientTLS
from targets.target_bench import make_bundle

WWW = make_bundle("www")
NOW = SystemClock().now()


@dataclass(frozen=True)
class Authority:
    """A CA that writes certificates with their keys into files."""

    folder: Path
    number: int

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.path.write_text(pem(self._certificate))

    @property
    def path(self) -> Path:
        return self.folder / f"ca-{self.number}.pem"

    @property
    def _key(self):
        return make_key(index=500 + self.number)

    @property
    def _certificate(self):
        return make_certificate(key=self._key, subject=f"CN=CA {self.number}", is_ca=True, now=NOW, serial=7)

    def write(self, name: str, *names: str, index: int = 600) -> tuple[Path, Path]:
        key = make_key(index=index)
        leaf = make_certificate(
            key=key,
            subject=f"CN={name}",
            names=names,
            issuer=self._certificate,
            issuer_key=self._key,
            now=NOW,
        )
        chain_path, key_path = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain_path.write_text(pem(leaf))
        key_path.write_text(write_key(key))
        return chain_path, key_path


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki", 1)


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki", 2)


def tls_settings(authority: Authority) -> dict[str, str]:
    chain, key = authority.write("server", "localhost", "127.0.0.1")
    return {"certificate": str(chain), "key": str(key), "client_ca": str(authority.path)}


async def fetch(address: str, credentials) -> list[str]:
    """Return the names that a client with these credentials gets."""
    options = [("grpc.ssl_target_name_override", "localhost")]
    channel = (
        grpc.aio.secure_channel(address, credentials, options) if credentials else grpc.aio.insecure_channel(address)
    )
    async with channel:
        stub = sds_pb2_grpc.SecretDiscoveryServiceStub(channel)
        answer = await stub.FetchSecrets(
            discovery_pb2.DiscoveryRequest(resource_names=["https-1"]), timeout=10, wait_for_ready=False
        )
        return [answer.version_info] if answer.resources else []


def credentials_of(server_ca: Authority, files: tuple[Path, Path] | None):
    chain, key = (path.read_bytes() for path in files) if files else (None, None)
    return grpc.ssl_channel_credentials(server_ca.path.read_bytes(), key, chain)


async def test_an_envoy_with_a_certificate_of_the_ca_gets_its_secrets(
    stack: AsyncExitStack, tmp_path: Path, ours: Authority
) -> None:
    target, address = await start_sds(stack, **tls_settings(ours))
    chain, key = ours.write("proxy", "edge-1.internal", index=601)
    envoy = await start_envoy(stack, tmp_path / "envoy", address, tls=ClientTLS(ours.path, chain, key))
    await envoy.wait_for_listener("https")
    copy = await target.install(WWW, scope=target.scope_of(HTTPS), present=None)
    await target.attach(HTTPS, copy, instead_of="")
    assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint


@pytest.mark.parametrize("who", ["nobody", "stranger"])
async def test_an_envoy_without_or_with_a_wrong_certificate_gets_nothing(
    stack: AsyncExitStack, tmp_path: Path, ours: Authority, theirs: Authority, who: str
) -> None:
    target, address = await start_sds(stack, **tls_settings(ours))
    files = theirs.write("stranger", "edge-1.internal", index=602) if who == "stranger" else (None, None)
    envoy = await start_envoy(stack, tmp_path / "envoy", address, tls=ClientTLS(ours.path, *files))
    async with asyncio.timeout(10):
        # Counted when a connection that was made ended: by then the handshake had its chance.
        while await envoy.stat("cluster.certorbit.upstream_cx_destroy") == 0:
            await asyncio.sleep(0.02)
    assert await envoy.stat("listener_manager.listener_create_success") == 0
    assert set((await envoy.secrets()).values()) <= {""}
    assert any("No proxy is connected" in finding.message for finding in await target.check())


async def test_a_client_without_or_with_a_wrong_certificate_gets_nothing(
    stack: AsyncExitStack, ours: Authority, theirs: Authority
) -> None:
    _, address = await start_sds(stack, **tls_settings(ours))
    stranger = theirs.write("stranger", "edge-1.internal", index=602)
    for credentials in (None, credentials_of(ours, None), credentials_of(ours, stranger)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await fetch(address, credentials)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await fetch(address, credentials_of(ours, ours.write("proxy", "edge-1.internal", index=601)))


async def test_files_that_change_are_in_use_for_the_next_connection(
    stack: AsyncExitStack, ours: Authority, theirs: Authority
) -> None:
    settings = tls_settings(ours)
    _, address = await start_sds(stack, **settings)
    proxy = ours.write("proxy", "edge-1.internal", index=601)
    stranger = theirs.write("stranger", "edge-1.internal", index=602)
    assert await fetch(address, credentials_of(ours, proxy))
    new_chain, new_key = theirs.write("new-server", "localhost", index=603)
    shutil.copy(new_chain, settings["certificate"])
    # The key is the old one still: the server goes on with what it has.
    assert await fetch(address, credentials_of(ours, proxy))
    shutil.copy(new_key, settings["key"])
    shutil.copy(theirs.path, settings["client_ca"])
    assert await fetch(address, credentials_of(theirs, stranger))
    with pytest.raises(grpc.aio.AioRpcError):
        await fetch(address, credentials_of(theirs, proxy))


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("certificate", "", "not readable"),
        ("key", "nonsense", "not readable"),
        ("client_ca", "nonsense", "not readable"),
        ("key", write_key(make_key(index=699)), "not the certificate's"),
        ("key", write_key(make_key(index=699), password=b"secret"), "unencrypted"),
        ("certificate", None, "No such file"),
    ],
)
async def test_files_that_can_not_be_used_stop_the_start(
    ours: Authority, file: str, text: str | None, says: str
) -> None:
    settings = tls_settings(ours)
    if text is None:
        Path(settings[file]).unlink()
    else:
        Path(settings[file]).write_text(text)
    target = make_target(make_settings(**settings))
    with pytest.raises(BadInput, match=says):
        await target.start()
    await target.close()
