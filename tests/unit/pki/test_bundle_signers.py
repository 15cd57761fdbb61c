"""Bundles and lists that are made to cost: many CAs of one name, many lists, lists that say nothing of their signer."""

from collections.abc import Iterator, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadIssue, BadMaterial
from certorbit.model.entry import Side
from certorbit.pki.bundle_lists import MOST_BUNDLE_URLS, find_places
from certorbit.pki.chain import MOST_SERVED, MOST_TRIES, check_issue, order_chain
from certorbit.pki.crl import check_bundle_crls, read_crls
from certorbit.pki.crl_points import MOST_URLS
from certorbit.pki.crl_signers import FREE_TRIES, MOST_MORE_TRIES
from certorbit.pki.read import read_facts
from certorbit.pki.upload import MOST_AUTHORITIES, read_upload
from make import NOW, distribution_points, make_certificate, make_chain, make_crl, make_key, pem, write_key

COUNT = FREE_TRIES + MOST_MORE_TRIES + 10  # more than are tried for a list
KEYS = [make_key(index=2000 + number) for number in range(COUNT)]
SAME = "CN=Same"


def key_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


def authorities(count: int = COUNT, *, ids: Sequence[int] | None = None) -> list[x509.Certificate]:
    """Return self-signed CAs of one name. ids: their key identifiers; None: they have none."""
    return [
        make_certificate(
            key=KEYS[number],
            subject=SAME,
            is_ca=True,
            extensions=[] if ids is None else [x509.SubjectKeyIdentifier(key_id(ids[number]))],
        )
        for number in range(count)
    ]


def list_of(authority: x509.Certificate, number: int, *, named: int | None = None, entries: int = 0) -> str:
    """Return the list of the CA with that number. named: the key identifier in it. entries: how long it is."""
    der = make_crl(
        authority,
        KEYS[number],
        authority_key_id=None if named is None else key_id(named),
        revoked=range(1, entries + 1),
    )
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()


@pytest.fixture(scope="module", name="nameless")
def _nameless() -> list[x509.Certificate]:
    return authorities()


def check(bundle: Sequence[x509.Certificate], lists: Sequence[str]) -> None:
    check_bundle_crls(read_crls(lists), bundle_pem=pem(*bundle))


def test_the_same_list_many_times_is_one_list(nameless: list[x509.Certificate]) -> None:
    one = list_of(nameless[0], 0)
    assert len(read_crls([one] * 5000)) == 1
    assert read_crls([one, f"\n{one}"]) == read_crls([one])


def test_more_lists_than_a_bundle_may_have_cas_are_not_even_read(nameless: list[x509.Certificate]) -> None:
    one, seen = list_of(nameless[0], 0), []

    def given() -> Iterator[str]:
        for number in range(5000):
            seen.append(number)
            yield one + "\n" * number

    with pytest.raises(BadMaterial, match=f"more than {MOST_AUTHORITIES} lists"):
        read_crls(given())
    assert len(seen) == MOST_AUTHORITIES + 1


def test_there_is_one_list_of_each_ca_at_most(nameless: list[x509.Certificate]) -> None:
    first, newer = list_of(nameless[0], 0), list_of(nameless[0], 0, entries=1)
    with pytest.raises(BadMaterial, match=r"items 1 and 2 are of the same CA, 'CN=Same'") as refused:
        check(nameless[:2], [first, newer])
    assert refused.value.subject == "crl"
    cross_signed = make_certificate(key=KEYS[0], subject=SAME, issuer=nameless[1], issuer_key=KEYS[1], is_ca=True)
    with pytest.raises(BadMaterial, match="items 1 and 2 are of the same CA"):
        check([nameless[0], cross_signed], [first, newer])


def test_a_list_that_names_its_key_is_tried_with_that_one_alone() -> None:
    """Each is the last CA's that is tried by names: without the identifiers they would be too many to try."""
    count = FREE_TRIES + 40
    bundle = authorities(count, ids=range(1, count + 1))
    lists = [list_of(bundle[number], number, named=number + 1) for number in reversed(range(count))]
    check(bundle, lists)
    assert [place.held is not None for place in find_places(pem(*bundle), read_crls(lists))] == [True] * count
    with pytest.raises(BadMaterial, match=r"not signed by a CA of the bundle.*authorityKeyIdentifier"):
        check(bundle, [list_of(bundle[0], 0, named=999)])
    with pytest.raises(BadMaterial, match=r"not signed by a CA of the bundle.*forged"):
        check(bundle, [list_of(bundle[0], 0, named=2)])


@pytest.mark.parametrize("named", [None, 1], ids=["no identifiers", "one identifier for all"])
def test_too_many_cas_of_one_name_are_not_all_tried(nameless: list[x509.Certificate], named: int | None) -> None:
    bundle = nameless if named is None else authorities(ids=[named] * COUNT)
    last = [list_of(bundle[-1], COUNT - 1, named=named)]
    with pytest.raises(BadMaterial, match="too many CAs of the bundle have one name") as refused:
        check(bundle, last)
    assert refused.value.subject == "crl"
    with pytest.raises(BadMaterial, match="too many CAs of the bundle have one name"):
        find_places(pem(*bundle), last)


def test_the_tries_of_all_lists_are_counted_together(nameless: list[x509.Certificate]) -> None:
    bundle = nameless[:20]
    check(bundle, [list_of(bundle[number], number) for number in range(10)])
    with pytest.raises(BadMaterial, match="too many CAs"):
        check(bundle, [list_of(bundle[number], number) for number in range(20)])


def test_a_long_list_is_tried_less_often(nameless: list[x509.Certificate]) -> None:
    bundle = nameless[:60]
    check(bundle, [list_of(bundle[-1], 59)])
    long_one = list_of(bundle[-1], 59, entries=6000)
    with pytest.raises(BadMaterial, match="too many CAs"):
        check(bundle, [long_one])
    after_a_rollover = [nameless[0], nameless[59]]  # the old key and the new one, without identifiers
    check(after_a_rollover, [long_one])


def test_what_a_bundle_asks_for_is_bounded_and_each_ca_has_its_share() -> None:
    points = distribution_points([f"http://{number}.example.test/" for number in range(MOST_URLS + 4)])
    many = [
        make_certificate(key=KEYS[number], subject=SAME, is_ca=True, extensions=[points]) for number in range(COUNT)
    ]
    places = find_places(pem(*many), ())
    assert len(places) == COUNT
    assert {len(place.urls) for place in places} == {MOST_BUNDLE_URLS // COUNT}
    [alone] = find_places(pem(many[0]), ())
    assert len(alone.urls) == MOST_URLS


def chain_of_one_name(length: int, *, step: int) -> tuple[list[x509.Certificate], str]:
    """Return a leaf and its chain, all CAs of one name, and the leaf's key. step: days that each one lasts longer."""
    leaf_key = make_key(index=1999)
    issuers = [
        make_certificate(
            key=KEYS[number],
            subject=SAME,
            issuer=make_certificate(key=KEYS[number + 1], subject=SAME, is_ca=True),
            issuer_key=KEYS[number + 1],
            is_ca=True,
            days=1000 + step * number,
        )
        for number in range(length)
    ]
    leaf = make_certificate(key=leaf_key, names=["a.example.test"], issuer=issuers[0], issuer_key=KEYS[0])
    return [leaf, *issuers], write_key(leaf_key)


def test_a_chain_whose_cas_have_one_name_is_not_searched_without_end() -> None:
    """The one that lasts longest is tried first: here it is always the wrong one."""
    certificates, key = chain_of_one_name(MOST_SERVED - 1, step=1)
    with pytest.raises(BadMaterial, match="too many certificates have the name 'CN=Same'") as refused:
        read_upload(pem(*certificates), key, side=Side.SERVER)
    assert refused.value.subject == "cert_body"
    few, key = chain_of_one_name(8, step=1)
    assert sum(range(8)) < MOST_TRIES
    assert order_chain(few[::-1], leaf=few[0]) == tuple(few)
    luckily, key = chain_of_one_name(MOST_SERVED - 1, step=-1)
    assert read_upload(pem(*luckily), key, side=Side.SERVER).chain_pem == pem(*luckily)


def test_a_ca_sends_no_chain_without_end() -> None:
    chain = make_chain()
    text = chain.chain_pem + chain.root_pem * MOST_SERVED
    with pytest.raises(BadIssue, match=f"a chain has at most {MOST_SERVED}"):
        check_issue(text, identifiers=(), public_key_sha256=read_facts(chain.leaf).public_key_sha256, now=NOW)
