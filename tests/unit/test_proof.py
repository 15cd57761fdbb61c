"""What handshakes must show for a certificate to be proven."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from certorbit.model.entry import EntryUID, Source, Version, VersionID
from certorbit.model.served import Served
from certorbit.pki.read import read_facts
from certorbit.workflows.proof import MOST_KEPT, expect, judge
from make import Chain, make_chain

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def version_of(chain: Chain, *, with_root: bool = False) -> Version:
    return Version(
        id=VersionID("v1"),
        entry_uid=EntryUID("u1"),
        created_at=NOW,
        source=Source.UPLOADED,
        chain_pem=chain.chain_pem + (chain.root_pem if with_root else ""),
        sealed_key=b"sealed",
        facts=read_facts(chain.leaf),
        le_hash="",
        issuer_name="",
    )


def fingerprints(chain: Chain) -> tuple[str, ...]:
    return tuple(c.fingerprint(SHA256()).hex() for c in (chain.leaf, *chain.issuers))


def served(*chain: str, name: str = "www.example.com", error: str = "", address: str = "192.0.2.1") -> Served:
    return Served(address=address, port=443, server_name=name, chain=chain, error=error)


def test_every_name_is_asked_for_and_a_wildcard_by_a_name_under_it() -> None:
    chain = make_chain(names=["www.example.com", "*.example.org", "192.0.2.7", "2001:db8::7"])
    assert expect(version_of(chain), is_default=False).names == ("www.example.com", "certorbit-proof.example.org")
    assert expect(version_of(chain), is_default=True).names[-1] == ""


def test_a_certificate_for_addresses_alone_is_asked_for_without_a_name() -> None:
    assert expect(version_of(make_chain(names=["192.0.2.7"])), is_default=False).names == ("",)


def test_leaf_and_intermediates_must_be_sent_and_the_root_need_not() -> None:
    chain = make_chain(depth=3)
    leaf, intermediate, root = fingerprints(chain)
    expected = expect(version_of(chain, with_root=True), is_default=False)
    assert judge([served(leaf, intermediate)], expected, at=NOW).is_served
    assert judge([served(leaf, root, intermediate)], expected, at=NOW).is_served
    without = judge([served(leaf)], expected, at=NOW)
    assert not without.is_served
    assert "without 1 of its intermediate certificates" in without.message


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (served("ff" * 32), "another certificate is served (ffffffffffffffff instead of "),
        (served(error="connect: refused."), "192.0.2.1:443 for www.example.com: connect: refused."),
        (served("ff" * 32, name="", address="2001:db8::1"), "[2001:db8::1]:443 for no name: another certificate"),
    ],
)
def test_one_bad_handshake_of_many_is_enough_and_said(one: Served, words: str) -> None:
    chain = make_chain()
    expected = expect(version_of(chain), is_default=False)
    good = served(*fingerprints(chain))
    proof = judge([good, one, good], expected, at=NOW)
    assert not proof.is_served
    assert "1 of 3 handshakes did not show it" in proof.message
    assert words in proof.message


def test_a_listener_without_an_address_is_never_proven() -> None:
    proof = judge([], expect(version_of(make_chain()), is_default=False), at=NOW)
    assert not proof.is_served
    assert "No address" in proof.message


def test_of_many_handshakes_the_bad_ones_are_kept() -> None:
    chain = make_chain()
    good = [served(*fingerprints(chain), address=f"192.0.2.{n}") for n in range(100)]
    bad = served("ff" * 32, address="192.0.2.200")
    proof = judge([*good, bad], expect(version_of(chain), is_default=False), at=NOW)
    assert len(proof.handshakes) == MOST_KEPT
    assert proof.handshakes[0].address == "192.0.2.200"
