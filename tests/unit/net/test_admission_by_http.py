"""Trying to get in at nginx, which shakes hands with everybody and refuses by a page."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from certorbit.model.balancer import Endpoint
from certorbit.net.probe import TLSProber
from certorbit.ports.prober import Admission
from make import make_chain
from programs import require_program
from targets.file_parts import free_port, wait_until
from unit.net.tls_listeners import server_context, stand_in, tls_server, write_pair

CHAIN = make_chain()
NAME = "www.example.com"


@asynccontextmanager
async def nginx(*, verify: str = "off", protocols: str = "TLSv1.2 TLSv1.3", more: str = "") -> AsyncIterator[Endpoint]:
    """Run an nginx with one server. more: further lines of it."""
    program, port = require_program("nginx"), free_port()
    with TemporaryDirectory(prefix="certorbit-nginx-") as place:
        folder = Path(place)
        certificate, key = write_pair(folder, CHAIN)
        (folder / "ca.pem").write_text(CHAIN.root_pem)
        (folder / "nginx.conf").write_text(
            f"pid {place}/nginx.pid; error_log {place}/error.log; worker_processes 1; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p;"
            f" fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n"
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};"
            f" ssl_protocols {protocols}; ssl_session_cache shared:all:1m; ssl_client_certificate {place}/ca.pem;"
            f" ssl_verify_client {verify}; {more} location / {{ return 200 'hello'; }} }} }}\n"
        )
        process = await asyncio.create_subprocess_exec(
            program, "-c", f"{place}/nginx.conf", "-g", "daemon off;", stderr=subprocess.DEVNULL
        )
        try:
            await wait_until((folder / "nginx.pid").exists, what="nginx runs")
            yield Endpoint("127.0.0.1", port)
        finally:
            process.terminate()
            await process.wait()


async def try_at(endpoint: Endpoint, *, says_no_by_http: bool = True) -> Admission:
    prober = TLSProber(handshake_limit=timedelta(seconds=10))
    [tried] = await prober.try_without_certificate([endpoint], [NAME], says_no_by_http=says_no_by_http)
    return tried


@pytest.mark.parametrize("protocols", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(("verify", "expected"), [("on", False), ("optional", True), ("off", True)])
async def test_who_gets_in(verify: str, protocols: str, *, expected: bool) -> None:
    async with nginx(verify=verify, protocols=protocols) as endpoint:
        tried = await try_at(endpoint)
    assert (tried.gets_in, tried.by_session) == (expected, False)


async def test_who_is_not_asked_seems_to_be_in() -> None:
    async with nginx(verify="on") as endpoint:
        assert (await try_at(endpoint, says_no_by_http=False)).gets_in


@pytest.mark.parametrize(
    "more", ["error_page 496 =200 /;", "return 400 'Bad request';"], ids=["a-page-of-another-kind", "another-400"]
)
async def test_only_the_page_about_the_certificate_keeps_somebody_out(more: str) -> None:
    async with nginx(verify="off" if "return" in more else "on", more=more) as endpoint:
        assert (await try_at(endpoint)).gets_in


async def test_who_asks_for_another_host_than_he_shook_hands_for_is_not_in() -> None:
    async with nginx(more="return 421;") as endpoint:
        assert not (await try_at(endpoint)).gets_in


async def test_a_connection_that_ends_without_an_answer_lets_nobody_in() -> None:
    async with nginx(more="return 444;") as endpoint:
        assert not (await try_at(endpoint)).gets_in


async def test_a_server_that_says_nothing_has_let_us_in(tmp_path: Path) -> None:
    async with tls_server(server_context(tmp_path, CHAIN)) as endpoint:
        assert (await try_at(endpoint)).gets_in


async def test_nobody_gets_in_where_no_server_is() -> None:
    async def close(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with stand_in(close) as endpoint:
        assert not (await try_at(endpoint)).gets_in
