"""A CA's answer is kept only if it is what we asked for."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from certorbit.errors import BACKOFF, BadIssue
from certorbit.model.material import CertificateFacts
from certorbit.pki.chain import check_issue
from certorbit.pki.private_key import public_key_sha256
from certorbit.pki.read import read_facts
from make import NOW, Chain, make_certificate, make_chain, make_key, pem, write_key

NAMES = ["www.example.com", "example.com", "192.0.2.7"]
GOOD = make_chain(names=NAMES)
SHORT = make_chain(names=NAMES, days=1 / 24)


def check(
    text: str, *, names: Sequence[str] = NAMES, of: Chain = GOOD, later: timedelta = timedelta(0)
) -> CertificateFacts:
    return check_issue(text, identifiers=names, public_key_sha256=public_key_sha256(of.private_key), now=NOW + later)


@pytest.mark.parametrize(
    "text",
    [GOOD.chain_pem, GOOD.chain_pem + GOOD.root_pem, GOOD.leaf_pem, f"# leaf\r\n{GOOD.chain_pem}\r\n\r\n"],
    ids=["with its intermediate", "with its root", "alone", "with text around"],
)
def test_what_was_asked_for_is_kept(text: str) -> None:
    assert check(text) == read_facts(GOOD.leaf)


def test_the_order_and_case_of_the_names_do_not_matter() -> None:
    assert check(GOOD.chain_pem, names=[name.upper() for name in reversed(NAMES)]).san == tuple(NAMES)


def test_a_self_signed_leaf_is_kept() -> None:
    alone = make_chain(names=NAMES, depth=1)
    assert check(alone.leaf_pem).fingerprint == read_facts(alone.leaf).fingerprint


def test_a_clock_of_the_ca_that_is_an_hour_ahead_is_borne() -> None:
    ahead = make_chain(names=NAMES, now=NOW + timedelta(hours=2))
    assert check(ahead.chain_pem).not_before == NOW + timedelta(hours=1)


NO_LEAF = make_certificate(key=GOOD.key, subject="CN=ca", names=NAMES, is_ca=True)
FORGED = make_certificate(
    key=make_key(index=70),
    subject=GOOD.issuers[0].subject,
    issuer=GOOD.root,
    issuer_key=make_key(index=71),
    is_ca=True,
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no certificate found"),
        ("<html>busy</html>", "no certificate found"),
        (GOOD.chain_pem[:-50], "cut off"),
        (GOOD.chain_pem + write_key(GOOD.key), "a block PRIVATE KEY is among the certificates"),
        (make_chain(names=NAMES[:2]).chain_pem, "192.0.2.7 is missing"),
        (make_chain(names=[*NAMES, "evil.example"]).chain_pem, "evil.example was not asked for"),
        (make_chain(names=NAMES, key_index=5).chain_pem, "another key"),
        (pem(NO_LEAF), "a CA certificate itself"),
        (make_chain(names=NAMES, days=-1).chain_pem, "ends at 2026-11-23T12:00:00"),
        (make_chain(names=NAMES, now=NOW + timedelta(hours=2, seconds=1)).chain_pem, "valid only from"),
        (GOOD.leaf_pem + GOOD.root_pem, "is not signed by C=US, O=Example Trust, CN=Example Root"),
        (GOOD.leaf_pem + pem(FORGED), "CN=www.example.com is not signed by"),
        (GOOD.intermediates_pem + GOOD.leaf_pem, "other names"),
        (GOOD.chain_pem * 2, "doesn't fit together"),
    ],
    ids=[
        "refused/empty",
        "refused/a web page",
        "refused/cut off",
        "refused/a key among the certificates",
        "refused/a name is missing",
        "refused/a name too many",
        "refused/another key",
        "refused/a CA certificate",
        "refused/expired",
        "refused/not valid yet",
        "refused/the intermediate is missing",
        "refused/an intermediate with the right name and another key",
        "refused/the intermediate comes first",
        "refused/the chain twice",
    ],
)
def test_anything_else_is_a_bad_issue(text: str, says: str) -> None:
    with pytest.raises(BadIssue) as refusal:
        check(text)
    assert says in refusal.value.message
    assert refusal.value.retry == BACKOFF


def test_a_certificate_in_its_last_minute_is_refused_and_before_it_is_kept() -> None:
    assert check(SHORT.chain_pem, later=timedelta(minutes=59)).san == tuple(NAMES)
    with pytest.raises(BadIssue, match="ends at"):
        check(SHORT.chain_pem, later=timedelta(minutes=59, seconds=1))
