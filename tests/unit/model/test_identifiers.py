"""Names and addresses are normalised or refused with a sentence that names them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certorbit.errors import BadIdentifier
from certorbit.model.identifiers import (
    Identifier,
    IdentifierType,
    hash_identifiers,
    normalise_identifier,
    normalise_identifiers,
)

GOOD = [
    pytest.param("www.example.com", "www.example.com", id="ok/plain"),
    pytest.param("WWW.Example.COM", "www.example.com", id="ok/upper case"),
    pytest.param(" www.example.com ", "www.example.com", id="ok/white space"),
    pytest.param("www.example.com.", "www.example.com", id="ok/trailing dot"),
    pytest.param("münchen.example", "xn--mnchen-3ya.example", id="ok/idn"),
    pytest.param("BÜCHER.example", "xn--bcher-kva.example", id="ok/idn upper case"),
    pytest.param("faß.example", "xn--fa-hia.example", id="ok/idna 2008 keeps sharp s"),
    pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="ok/a-label"),
    pytest.param("例え.example", "xn--r8jz45g.example", id="ok/idn japanese"),
    pytest.param("*.example.com", "*.example.com", id="ok/wildcard"),
    pytest.param("*.Bücher.example", "*.xn--bcher-kva.example", id="ok/wildcard idn"),
    pytest.param("r3---sn-25.example.com", "r3---sn-25.example.com", id="ok/hyphens in places 3 and 4"),
    pytest.param("a" * 63 + ".example", "a" * 63 + ".example", id="ok/label of 63"),
    pytest.param("3com.example", "3com.example", id="ok/leading digit"),
    # An emoji domain: IDNA 2008 refuses it, DNS holds it; the CA decides.
    pytest.param("xn--i-7iq.example", "xn--i-7iq.example", id="ok/a-label outside IDNA 2008"),
    pytest.param("192.0.2.7", "192.0.2.7", id="ok/ipv4"),
    pytest.param("2001:DB8::0:1", "2001:db8::1", id="ok/ipv6"),
    pytest.param("[2001:db8::1]", "2001:db8::1", id="ok/ipv6 in brackets"),
]


@pytest.mark.parametrize(("text", "value"), GOOD)
def test_a_usable_identifier_is_normalised(text: str, value: str) -> None:
    assert normalise_identifier(text).value == value


BAD = [
    pytest.param("", id="refused/empty"),
    pytest.param(" ", id="refused/blank"),
    pytest.param(".", id="refused/root"),
    pytest.param("localhost", id="refused/one label"),
    pytest.param("a..example.com", id="refused/empty label"),
    pytest.param("-a.example.com", id="refused/leading hyphen"),
    pytest.param("a-.example.com", id="refused/trailing hyphen"),
    pytest.param("a_b.example.com", id="refused/underscore"),
    pytest.param("a b.example.com", id="refused/space inside"),
    pytest.param("a" * 64 + ".example", id="refused/label of 64"),
    pytest.param(".".join(["a" * 60] * 5), id="refused/name over 253"),
    pytest.param("www.*.example.com", id="refused/wildcard inside"),
    pytest.param("*", id="refused/bare star"),
    pytest.param("*.com", id="refused/wildcard over one label"),
    pytest.param("**.example.com", id="refused/two stars"),
    pytest.param("https://www.example.com/", id="refused/url"),
    pytest.param("www.example.com:443", id="refused/port"),
    pytest.param("user@example.com", id="refused/mail address"),
    pytest.param("1.2.3", id="refused/half an address"),
    pytest.param("1.2.3.4.5", id="refused/numeric top level"),
    pytest.param("fe80::1%eth0", id="refused/zone"),
    pytest.param("a\x00b.example.com", id="refused/nul"),
    pytest.param("a\nb.example.com", id="refused/line end"),
]


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadIdentifier) as caught:
        normalise_identifier(text)
    assert caught.value.subject == "domains"
    assert caught.value.message.startswith("domains: ")
    assert "\n" not in caught.value.message


def test_duplicates_are_dropped_and_the_order_is_kept() -> None:
    names = normalise_identifiers(["b.example.com", "A.example.com", "b.example.com.", "a.example.com"])
    assert [name.value for name in names] == ["b.example.com", "a.example.com"]


def test_a_hundred_names_fit_and_one_more_does_not() -> None:
    names = [f"n{i}.example.com" for i in range(101)]
    assert len(normalise_identifiers(names[:100])) == 100
    with pytest.raises(BadIdentifier, match="101 names were given; at most 100"):
        normalise_identifiers(names)


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(BadIdentifier, match="name at least one"):
        normalise_identifiers([])


@given(st.text(max_size=300))
def test_any_text_is_normalised_for_good_or_refused(text: str) -> None:
    try:
        first = normalise_identifier(text)
    except BadIdentifier:
        return
    assert normalise_identifier(first.value) == first
    assert first.value.isascii()


def test_the_hash_is_that_of_the_sorted_names_joined_with_commas() -> None:
    expected = hashlib.sha256(b"a.example,b.example").hexdigest()
    assert hash_identifiers(["b.example", "a.example"]) == expected


def test_a_wildcard_knows_that_it_is_one() -> None:
    assert Identifier(IdentifierType.DNS, "*.example.com").is_wildcard
    assert not Identifier(IdentifierType.DNS, "www.example.com").is_wildcard
