"""Trying to get in without a client certificate: at servers that ask for one, that don't, and that are no servers.

The way around a check by a session of another name is shown at a real proxy (tests/targets/test_haproxy_clients.py).
"""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from certorbit.model.balancer import Endpoint
from certorbit.net.probe import TLSProber
from certorbit.ports.prober import Admission
from make import make_chain
from unit.net.tls_listeners import Answer, record, server_context, stand_in, tls_server

CHAIN = make_chain()
NAME = "www.example.com"
SHORT = timedelta(milliseconds=300)
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


async def try_at(endpoint: Endpoint, name: str = NAME, *, limit: timedelta = SHORT * 30) -> Admission:
    prober = TLSProber(handshake_limit=limit)
    [tried] = await prober.try_without_certificate([endpoint], [name])
    assert (tried.port, tried.server_name) == (endpoint.port, name)
    return tried


def server_that(folder: Path, *, asks: ssl.VerifyMode, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = server_context(folder, CHAIN)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = asks
    context.load_verify_locations(cadata=CHAIN.root_pem)
    return context


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize(
    ("asks", "expected"),
    [(ssl.CERT_NONE, True), (ssl.CERT_OPTIONAL, True), (ssl.CERT_REQUIRED, False)],
    ids=["asks-nobody", "asks", "requires"],
)
async def test_who_gets_in(tmp_path: Path, asks: ssl.VerifyMode, version: ssl.TLSVersion, *, expected: bool) -> None:
    async with tls_server(server_that(tmp_path, asks=asks, version=version)) as endpoint:
        tried = await try_at(endpoint)
    assert (tried.gets_in, tried.by_session) == (expected, False)


async def test_a_server_with_nothing_to_say_after_the_handshake_has_let_us_in(tmp_path: Path) -> None:
    context = server_that(tmp_path, asks=ssl.CERT_NONE, version=TLS_1_3)
    context.num_tickets = 0
    async with tls_server(context) as endpoint:
        assert (await try_at(endpoint)).gets_in


async def test_each_name_is_tried_at_each_address(tmp_path: Path) -> None:
    async with tls_server(server_that(tmp_path, asks=ssl.CERT_NONE, version=TLS_1_3)) as endpoint:
        tried = await TLSProber().try_without_certificate([endpoint, endpoint], [NAME, ""])
    assert [(one.server_name, one.gets_in) for one in tried] == [(NAME, True), ("", True)] * 2


async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def close(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(4096)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def never_stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(4096)
    while True:
        writer.write(record(0x16, bytes(4)) * 1000)  # HelloRequests, which clients pass over
        await writer.drain()


@pytest.mark.parametrize("answer", [say_nothing, close, speak_http, never_stop], ids=lambda answer: answer.__name__)
async def test_nobody_gets_in_where_no_server_is(answer: Answer) -> None:
    async with stand_in(answer) as endpoint:
        assert not (await try_at(endpoint, limit=SHORT)).gets_in


async def test_nobody_gets_in_where_nobody_listens() -> None:
    async with stand_in(close) as endpoint:
        pass
    assert not (await try_at(endpoint)).gets_in
    [tried] = await TLSProber().try_without_certificate([Endpoint("nowhere.invalid", 443)], [NAME])
    assert (tried.address, tried.gets_in) == ("nowhere.invalid", False)


async def test_a_name_that_can_not_be_sent_gets_nobody_in(tmp_path: Path) -> None:
    async with tls_server(server_that(tmp_path, asks=ssl.CERT_NONE, version=TLS_1_3)) as endpoint:
        assert not (await try_at(endpoint, "a" * 64 + ".example.com")).gets_in
