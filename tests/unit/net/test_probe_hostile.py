"""The prober against servers that are broken, hostile or not there: always an answer in time, never an exception."""

import asyncio
import socket
import struct
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from certorbit.model.balancer import Endpoint
from certorbit.net.probe import TLSProber
from certorbit.ports.prober import Served
from make import Chain, make_certificate, make_chain, make_key
from unit.net.tls_listeners import (
    Answer,
    record,
    requires_client_certificate,
    s_server,
    server_context,
    server_hello_and_certificates,
    stand_in,
    tls_server,
    write_pair,
)

CHAIN = make_chain()
DER = CHAIN.leaf.public_bytes(Encoding.DER)
HELLO_REQUEST = record(0x16, bytes(4))  # RFC 5246 §7.4.1.1: clients pass over it
HANDSHAKE_FAILURE = record(0x15, b"\x02\x28")
SHORT = timedelta(milliseconds=300)


async def ask(host: str, port: int, name: str = "www.example.com", **options: Any) -> Served:
    [served] = await TLSProber(**options).probe([Endpoint(host, port)], [name], key_algorithm="ecdsa-p256")
    assert served.chain == ()
    return served


async def error_of(answer: Answer, **options: Any) -> str:
    async with stand_in(answer) as endpoint:
        return (await ask(endpoint.host, endpoint.port, **options)).error


def says(content: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)  # the ClientHello; closing with it unread would be a reset
        writer.write(content)
        await writer.drain()

    return answer


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"", "the server closed the connection without an answer", id="nothing"),
        pytest.param(
            b"HTTP/1.1 400 Bad Request\r\n\r\n", "the answer is plain HTTP; this port does not speak TLS", id="http"
        ),
        pytest.param(
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "the answer is not TLS (it starts with the bytes 53 53 48 2d 32 2e 30 2d)",
            id="ssh",
        ),
        pytest.param(
            HANDSHAKE_FAILURE,
            "the server refused with the alert 'handshake failure': it has no certificate for this name and kind of"
            " key, or no cipher in common with us",
            id="handshake-failure",
        ),
        pytest.param(
            record(0x15, b"\x02\x46"),
            "the server refused with the alert 'protocol version': it takes neither TLS 1.2 nor TLS 1.3",
            id="protocol-version",
        ),
        pytest.param(
            record(0x15, b"\x02\x31"), "the server refused with the alert 'access denied'", id="access-denied"
        ),
        pytest.param(
            record(0x16, b"\x02\x00\x00\x02\x03\x03"),
            "the server's answer is no good handshake (length mismatch)",
            id="cut-hello",
        ),
        pytest.param(
            b"\x16\x03\x03\x00\x40\x02", "the server closed the connection in the middle of the handshake", id="cut"
        ),
        pytest.param(
            server_hello_and_certificates(DER),
            "the server closed the connection in the middle of the handshake",
            id="cut-after-the-certificate",
        ),
        pytest.param(
            server_hello_and_certificates(b"\x30\x03garbage"),
            "the server's answer is no good handshake (asn1 lib)",
            id="certificate-is-garbage",
        ),
        pytest.param(
            HELLO_REQUEST * 40_000, "the server sent more than 256 KiB and no end of the handshake", id="endless"
        ),
    ],
)
async def test_what_is_no_handshake_is_said_in_one_sentence(content: bytes, error: str) -> None:
    assert await error_of(says(content)) == f"TLS: {error}."


async def test_a_certificate_without_a_proof_of_its_key_is_not_served() -> None:
    """A server that refuses before it has signed with its key has shown nothing that counts."""
    error = await error_of(says(server_hello_and_certificates(DER) + HANDSHAKE_FAILURE))
    assert error.startswith("TLS: the server refused with the alert 'handshake failure'")


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


@pytest.mark.parametrize("then", [reset, says(b""), says(HANDSHAKE_FAILURE), say_nothing])
async def test_however_a_server_ends_that_misses_our_certificate_it_has_shown_its_own(
    tmp_path: Path, then: Answer
) -> None:
    async with stand_in(requires_client_certificate(server_context(tmp_path, CHAIN), then)) as endpoint:
        [served] = await TLSProber().probe([endpoint], ["www.example.com"], key_algorithm="ecdsa-p256")
    assert (served.error, served.protocol, len(served.chain)) == ("", "TLSv1.2", 2)


async def test_a_reset_is_told_from_an_orderly_end() -> None:
    assert await error_of(reset) == "TLS: the server reset the connection without an answer."


async def test_a_silent_server_takes_no_more_than_the_time_limit() -> None:
    assert await error_of(say_nothing, handshake_limit=SHORT) == "TLS: no full handshake within 0.3 s."


async def test_neither_does_one_that_drips() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(HELLO_REQUEST)
            await writer.drain()
            await asyncio.sleep(0.02)

    assert await error_of(drip, handshake_limit=SHORT) == "TLS: no full handshake within 0.3 s."


async def test_a_host_that_takes_no_connection_takes_no_more_than_the_time_limit() -> None:
    with socket.socket() as full:  # whose queue is full: the kernel answers no further SYN
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        served = await ask("127.0.0.1", port, connect_limit=SHORT)
        for one in waiting:
            one.close()
    assert served.error == "connect: no answer within 0.3 s."


async def test_a_closed_port_refuses() -> None:
    with socket.socket() as bound:  # bound, but nobody listens
        bound.bind(("127.0.0.1", 0))
        served = await ask("127.0.0.1", bound.getsockname()[1])
    assert served.error == "connect: connection refused."


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1%lo", "::ffff:169.254.169.254", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"]
)
async def test_link_local_and_metadata_addresses_are_not_asked(address: str) -> None:
    literal = await ask(address, 443)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    named = await ask("lb.example.com", 443, resolve=lambda *_, **__: [(family, 1, 6, "", (address, 443))])
    assert {literal.error, named.error} == {"connect: a link-local, multicast or metadata address is not asked."}


async def test_a_dead_resolver_takes_no_more_than_the_time_limit() -> None:
    end = threading.Event()

    def hang(*_: object, **__: object) -> Sequence[Any]:
        end.wait(30)
        return []

    try:
        served = await ask("lb.example.com", 443, resolve=hang, resolve_limit=SHORT)
    finally:
        end.set()
    assert (served.error, served.address) == ("resolve: no answer within 0.3 s.", "lb.example.com")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70, "", "[::1]", "bad\0host"])
async def test_what_can_not_be_resolved_is_an_answer_too(host: str) -> None:
    served = await ask(host, 443)
    assert served.error.startswith(("resolve: the host name ", "connect: "))
    assert served.error.endswith(".")


@pytest.mark.parametrize("name", [".", "a..b", "x" * 70, "*.example.com", "bad\0name", "ü" * 300])
async def test_a_name_that_is_no_sni_is_an_answer_too(tmp_path: Path, name: str) -> None:
    async with tls_server(server_context(tmp_path, CHAIN)) as endpoint:
        [served] = await TLSProber().probe([endpoint], [name], key_algorithm="ecdsa-p256")
    assert (served.error == "") == (name == "*.example.com")
    assert served.error in {"", "TLS: the name can't be sent as SNI."}


async def test_addresses_without_a_route_are_left_out_where_others_have_one() -> None:
    nowhere = (socket.AF_INET, 1, 6, "", ("255.255.255.255", 1))  # a UDP socket may not broadcast unasked
    here = (socket.AF_INET, 1, 6, "", ("127.0.0.1", 1))
    both, alone = ([nowhere, here], [nowhere])
    prober = TLSProber(resolve=lambda *_, **__: both)
    seen = await prober.probe([Endpoint("lb.example.com", 1)], [""], key_algorithm="")
    assert [served.address for served in seen] == ["127.0.0.1"]
    prober = TLSProber(resolve=lambda *_, **__: alone)
    seen = await prober.probe([Endpoint("lb.example.com", 1)], [""], key_algorithm="")
    assert [served.address for served in seen] == ["255.255.255.255"]
    assert seen[0].error.startswith("connect: ")


async def test_a_huge_certificate_is_refused(tmp_path: Path) -> None:
    big = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(110_000))
    leaf = make_certificate(key=make_key(), subject="CN=big", names=["www.example.com"], extensions=[big])
    chain = Chain(leaf=leaf, issuers=(), key=make_key(), issuer_keys=())
    certificate, key = write_pair(tmp_path, chain)
    with s_server(tmp_path, "-cert", certificate, "-key", key) as endpoint:
        served = await ask(endpoint.host, endpoint.port)
    assert served.error == "TLS: the server's certificates are more than 100 KiB."


async def test_a_caller_that_gives_up_ends_the_handshakes(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        closed.set()

    async with stand_in(wait) as endpoint:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await TLSProber().probe([endpoint], ["www.example.com"], key_algorithm="ecdsa-p256")
        async with asyncio.timeout(20):
            await closed.wait()


@settings(deadline=None, max_examples=60)
@given(start=st.sampled_from([b"", server_hello_and_certificates(DER), b"\x16\x03\x03"]), rest=st.binary(max_size=200))
def test_whatever_bytes_come_the_answer_is_one_sentence(start: bytes, rest: bytes) -> None:
    error = asyncio.run(error_of(says(start + rest), handshake_limit=timedelta(seconds=5)))
    assert error.startswith("TLS: ")
    assert error.endswith(".")
    assert error.isprintable()
