"""The prober against real TLS servers, every kind of certificate and chain."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.model.balancer import Endpoint
from certorbit.net.probe import TLSProber
from certorbit.ports.prober import Prober, Served
from make import make_chain
from unit.net.tls_listeners import fingerprints, s_server, server_context, tls_server, write_pair

ECDSA = make_chain(depth=4)
RSA = make_chain(key="rsa-2048", depth=4)
OTHER = make_chain(names=["other.example.com"], key_index=7)
NAME = "www.example.com"


async def look(endpoint: Endpoint, name: str = NAME, *, key_algorithm: str = "ecdsa-p256") -> Served:
    prober: Prober = TLSProber()
    [served] = await prober.probe([endpoint], [name], key_algorithm=key_algorithm)
    return served


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(("version", "protocol"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
async def test_the_chain_is_seen_as_sent_the_leaf_first(tmp_path: Path, host: str, version: str, protocol: str) -> None:
    certificate, key = write_pair(tmp_path, ECDSA)
    options = ("-cert", certificate, "-key", key, "-cert_chain", certificate_chain(tmp_path))
    with s_server(tmp_path, *options, version, host=host) as endpoint:
        served = await look(endpoint)
    assert (served.error, served.protocol, served.address, served.port) == ("", protocol, host, endpoint.port)
    assert served.chain == fingerprints(ECDSA.leaf, *ECDSA.issuers[:-1])
    assert served.leaf == served.chain[0]
    assert served.milliseconds > 0


def certificate_chain(folder: Path) -> str:
    file = folder / "intermediates.pem"
    file.write_text(ECDSA.intermediates_pem)
    return str(file)


async def test_a_chain_in_the_wrong_order_is_shown_as_it_is_sent(tmp_path: Path) -> None:
    wrong = [ECDSA.issuers[2], ECDSA.issuers[0], ECDSA.issuers[0]]
    async with tls_server(server_context(tmp_path, ECDSA, order=wrong)) as endpoint:
        served = await look(endpoint)
    assert served.chain == fingerprints(ECDSA.leaf, *wrong)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_the_name_is_sent_as_sni_and_none_and_addresses_are_not(tmp_path: Path, version: str) -> None:
    certificate, key = write_pair(tmp_path, ECDSA)
    certificate2, key2 = write_pair(tmp_path, OTHER, "other")
    options = ("-cert", certificate, "-key", key, "-servername", "other.example.com", "-servername_fatal")
    with s_server(tmp_path, *options, "-cert2", certificate2, "-key2", key2, version) as endpoint:
        names = ["other.example.com", "", "192.0.2.1", "2001:db8::1", "unknown.example.com"]
        seen = await TLSProber(at_once=1).probe([endpoint], names, key_algorithm="ecdsa-p256")
    assert [served.server_name for served in seen] == ["other.example.com", "", "", "", "unknown.example.com"]
    first, *without = (served.leaf for served in seen[:4])
    assert (first,) == fingerprints(OTHER.leaf)
    assert set(without) == set(fingerprints(ECDSA.leaf))
    assert (
        seen[4].error
        == "TLS: the server refused with the alert 'unrecognized name': it has no certificate for this name."
    )


@pytest.mark.parametrize(
    ("key_algorithm", "leaf"),
    [("rsa-2048", RSA.leaf), ("rsa-4096", RSA.leaf), ("ecdsa-p384", ECDSA.leaf), ("ed25519", ECDSA.leaf)],
)
async def test_of_two_certificates_for_a_name_the_wanted_kind_is_asked_for(
    tmp_path: Path, key_algorithm: str, leaf: object
) -> None:
    certificate, key = write_pair(tmp_path, ECDSA)
    certificate2, key2 = write_pair(tmp_path, RSA, "rsa")
    with s_server(tmp_path, "-cert", certificate, "-key", key, "-dcert", certificate2, "-dkey", key2) as endpoint:
        served = await look(endpoint, key_algorithm=key_algorithm)
    assert (served.leaf,) == fingerprints(leaf)  # type: ignore[arg-type]


@pytest.mark.parametrize("chain", [ECDSA, RSA], ids=["ecdsa", "rsa"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("key_algorithm", ["rsa-2048", "ecdsa-p256"])
async def test_a_listener_with_the_other_kind_alone_shows_what_it_has(
    tmp_path: Path, chain: object, version: str, key_algorithm: str
) -> None:
    certificate, key = write_pair(tmp_path, chain)  # type: ignore[arg-type]
    with s_server(tmp_path, "-cert", certificate, "-key", key, version) as endpoint:
        served = await look(endpoint, key_algorithm=key_algorithm)
    assert served.error == ""
    assert (served.leaf,) == fingerprints(chain.leaf)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("version", "protocol"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
@pytest.mark.parametrize("chain", [ECDSA, RSA], ids=["ecdsa", "rsa"])
async def test_a_listener_that_requires_a_client_certificate_shows_its_own(
    tmp_path: Path, version: str, protocol: str, chain: object
) -> None:
    certificate, key = write_pair(tmp_path, chain)  # type: ignore[arg-type]
    with s_server(tmp_path, "-cert", certificate, "-key", key, "-Verify", "1", version) as endpoint:
        served = await look(endpoint)
    assert (served.error, served.protocol) == ("", protocol)
    assert (served.leaf,) == fingerprints(chain.leaf)  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_so_does_one_in_python(tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = server_context(tmp_path, ECDSA)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's own complaint
    async with tls_server(context) as endpoint:
        served = await look(endpoint)
    assert (served.error, (served.leaf,)) == ("", fingerprints(ECDSA.leaf))


async def test_a_certificate_that_only_openssl_can_read_is_compared_all_the_same(tmp_path: Path) -> None:
    der = ECDSA.leaf.public_bytes(Encoding.DER).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1)
    odd, key = tmp_path / "odd.der", write_pair(tmp_path, ECDSA)[1]
    odd.write_bytes(der)  # X.509 version 4, which does not exist
    with s_server(tmp_path, "-cert", str(odd), "-certform", "DER", "-key", key) as endpoint:
        served = await look(endpoint)
    assert served.error == ""
    assert len(served.leaf) == 64
    assert (served.leaf,) != fingerprints(ECDSA.leaf)


async def test_results_come_in_the_order_of_endpoints_addresses_and_names(tmp_path: Path) -> None:
    context = server_context(tmp_path, ECDSA)
    names = ["a.example.com", "", "b.example.com"]
    async with tls_server(context) as first, tls_server(context, host="::1") as second:
        gone = Endpoint("no-such-host.invalid", 443)
        seen = await TLSProber(at_once=4).probe([second, gone, first], names, key_algorithm="ecdsa-p256")
    assert [(served.address, served.port, served.server_name) for served in seen] == [
        *(("::1", second.port, name) for name in names),
        ("no-such-host.invalid", 443, ""),
        *(("127.0.0.1", first.port, name) for name in names),
    ]
    assert [served.error != "" for served in seen] == [False] * 3 + [True] + [False] * 3


async def test_a_host_name_is_asked_at_all_of_its_addresses(tmp_path: Path) -> None:
    context = server_context(tmp_path, ECDSA)
    async with tls_server(context) as endpoint:
        here = [(2, 1, 6, "", (address, endpoint.port)) for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1")]
        prober = TLSProber(resolve=lambda *_, **__: here)  # a stand-in for a DNS with two addresses
        seen = await prober.probe([Endpoint("lb.example.com", endpoint.port)], [NAME], key_algorithm="ecdsa-p256")
    assert [served.address for served in seen] == ["127.0.0.1", "127.0.0.2"]
    assert seen[0].error == ""
    assert seen[1].error == "connect: connection refused."  # half of the listener's addresses are down


async def test_the_bound_on_handshakes_at_once_holds_over_all_callers(tmp_path: Path) -> None:
    open_now, most = 0, 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await reader.read()
        open_now -= 1
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0, ssl=server_context(tmp_path, ECDSA))
    async with server:
        endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        prober = TLSProber(at_once=3)
        rounds = [prober.probe([endpoint], [NAME] * 20, key_algorithm="ecdsa-p256") for _ in range(3)]
        seen = [served for one in await asyncio.gather(*rounds) for served in one]
    assert [served.error for served in seen] == [""] * 60
    # The server sees a connection's end a little later than we do, so the next one may be there already.
    assert most <= 6


async def test_each_handshake_is_a_full_one_without_any_data(tmp_path: Path) -> None:
    ended: asyncio.Queue[tuple[bool, bytes]] = asyncio.Queue()
    context = server_context(tmp_path, ECDSA)

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_resumed = writer.get_extra_info("ssl_object").session_reused
        await ended.put((is_resumed, await reader.read()))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0, ssl=context)
    async with server:
        endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        await TLSProber(at_once=1).probe([endpoint], [NAME] * 4, key_algorithm="ecdsa-p256")
        async with asyncio.timeout(20):
            assert [await ended.get() for _ in range(4)] == [(False, b"")] * 4
