"""Which URLs and which addresses are let through."""

import socket

import pytest

from certorbit.errors import Unreachable
from certorbit.net.address_space import Space, classify_address
from certorbit.net.guard import AddressGuard, AddressRefused, check_ca_url

HTTPS = "https://acme.example/directory"


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.example/order/1",
        "https://other.example:8443/a/b?c=d&e=%20~",
        "https://[2001:4860:4860::8888]/x",
        "https://8.8.8.8/x",
    ],
)
def test_a_plain_https_url_passes(url: str) -> None:
    check_ca_url(url, directory=HTTPS)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://acme.example/x", "not https"),
        ("HTTPS://acme.example/x", "not a plain"),
        ("https://user@acme.example/x", "credentials"),
        ("https://user:secret@acme.example/x", "credentials"),
        ("https://acme.example\\@evil.example/x", "not a plain"),
        ("https://acme.example/#x", "not a plain"),
        ("https://acme.example/a b", "not a plain"),
        ("https://acme.example/\n", "not a plain"),
        ("https://bücher.example/", "not a plain"),
        ("https://", "not a plain"),
        ("https:///x", "names no host"),
        ("https://:443/x", "names no host"),
        ("https://acme.example:port/x", "not a URL"),
        ("https://[::1/x", "not a URL"),
        ("file:///etc/passwd", "not a plain"),
        ("", "not a plain"),
        ("https://acme.example/" + "x" * 2048, "not a plain"),
    ],
)
def test_any_other_url_is_refused(url: str, why: str) -> None:
    with pytest.raises(Unreachable, match=why) as caught:
        check_ca_url(url, directory=HTTPS)
    assert caught.value.phase == "guard"
    assert caught.value.message.isprintable()
    assert "secret" not in caught.value.message
    assert len(caught.value.message) < 300


def test_http_passes_only_under_a_directory_that_is_http_itself() -> None:
    check_ca_url("http://127.0.0.1:4000/x", directory="http://127.0.0.1:4000/dir")
    check_ca_url("https://127.0.0.1:4000/x", directory="http://127.0.0.1:4000/dir")


@pytest.mark.parametrize(
    ("address", "space"),
    [
        ("8.8.8.8", Space.PUBLIC),
        ("2001:4860:4860::8888", Space.PUBLIC),
        ("64:ff9b::808:808", Space.PUBLIC),
        ("10.1.2.3", Space.PRIVATE),
        ("172.16.0.1", Space.PRIVATE),
        ("192.168.1.1", Space.PRIVATE),
        ("100.64.0.1", Space.PRIVATE),
        ("fd12:3456::1", Space.PRIVATE),
        ("::ffff:10.0.0.1", Space.PRIVATE),
        ("64:ff9b::a00:1", Space.PRIVATE),
        ("240.0.0.1", Space.PRIVATE),
        ("127.0.0.1", Space.LOOPBACK),
        ("127.8.9.10", Space.LOOPBACK),
        ("::1", Space.LOOPBACK),
        ("::ffff:127.0.0.1", Space.LOOPBACK),
        ("169.254.169.254", Space.FORBIDDEN),
        ("::ffff:169.254.169.254", Space.FORBIDDEN),
        ("64:ff9b::a9fe:a9fe", Space.FORBIDDEN),
        ("fe80::1%eth0", Space.FORBIDDEN),
        ("fd00:ec2::254", Space.FORBIDDEN),
        ("100.100.100.200", Space.FORBIDDEN),
        ("0.0.0.0", Space.FORBIDDEN),
        ("::", Space.FORBIDDEN),
        ("224.0.0.1", Space.FORBIDDEN),
        ("ff02::1", Space.FORBIDDEN),
        ("2002:7f00:1::", Space.FORBIDDEN),
        ("2001:0:1::1", Space.FORBIDDEN),
        ("64:ff9b:1::a00:1", Space.PRIVATE),
        ("64:ff9b:1::808:808", Space.PRIVATE),
        ("64:ff9b:1::7f00:1", Space.LOOPBACK),
        ("64:ff9b:1::a9fe:a9fe", Space.FORBIDDEN),
        ("fec0::1", Space.PRIVATE),
        ("4000::1", Space.PRIVATE),
        ("::10.0.0.1", Space.PRIVATE),
        ("::8.8.8.8", Space.PRIVATE),
        ("::127.0.0.1", Space.LOOPBACK),
        ("::169.254.169.254", Space.FORBIDDEN),
        ("::ffff:0:10.0.0.1", Space.PRIVATE),
        ("::ffff:0:a9fe:a9fe", Space.FORBIDDEN),
    ],
)
def test_an_address_is_as_near_as_it_is(address: str, space: Space) -> None:
    assert classify_address(address) is space


def address_info(address: str) -> tuple[int, int, int, str, tuple[str, int]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443)


@pytest.mark.parametrize(
    ("directory", "address", "allowed"),
    [
        ("https://8.8.8.8/dir", "9.9.9.9", True),
        ("https://8.8.8.8/dir", "10.0.0.1", False),
        ("https://8.8.8.8/dir", "127.0.0.1", False),
        ("https://8.8.8.8/dir", "169.254.169.254", False),
        ("https://10.0.0.5/dir", "10.0.0.6", True),
        ("https://10.0.0.5/dir", "8.8.8.8", True),
        ("https://10.0.0.5/dir", "127.0.0.1", False),
        ("https://127.0.0.1/dir", "127.0.0.1", True),
        ("https://[::1]/dir", "127.0.0.1", True),
        ("https://127.0.0.1/dir", "169.254.169.254", False),
        ("https://169.254.169.254/dir", "169.254.169.254", False),
        ("https://not-looked-up.example/dir", "10.0.0.1", False),
    ],
)
def test_no_socket_opens_nearer_than_the_directory(directory: str, address: str, *, allowed: bool) -> None:
    guard = AddressGuard(directory)
    if not allowed:
        with pytest.raises(AddressRefused, match=address):
            guard.open_socket(address_info(address))
        return
    with guard.open_socket(address_info(address)) as opened:
        assert opened.fileno() >= 0


async def test_the_first_look_up_of_the_directory_decides() -> None:
    guard = AddressGuard("https://localhost/dir")
    with pytest.raises(AddressRefused):
        guard.open_socket(address_info("127.0.0.1"))
    results = await guard.resolve("localhost", 443, socket.AF_UNSPEC)
    assert results
    guard.open_socket(address_info("127.0.0.1")).close()
    await guard.close()


async def test_a_look_up_of_another_host_decides_nothing() -> None:
    guard = AddressGuard("https://acme.example/dir")
    await guard.resolve("localhost", 443, socket.AF_UNSPEC)
    with pytest.raises(AddressRefused):
        guard.open_socket(address_info("127.0.0.1"))
    await guard.close()
