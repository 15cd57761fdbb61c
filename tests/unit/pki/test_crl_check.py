"""Which revocation lists may be believed, for which certificates, and what they say (RFC 5280 §5, §6.3)."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from certorbit.errors import BadMaterial, CRLUnusable
from certorbit.model.crl import REASONS
from certorbit.pki.crl_check import (
    CRLIndex,
    RevokedEntry,
    check_dates,
    check_follows,
    check_scope,
    check_signed_by,
    find_revoked,
    read_crl,
)
from certorbit.pki.crl_points import MOST_URLS, identify_issuer, read_leaf
from make import NOW, crl_scope, distribution_points, make_certificate, make_chain, make_crl, make_key, pem, revoke

KEY = make_key(index=70)
OTHER_KEY = make_key(index=71)
SKI = x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
URL = "http://crl.example.test/1.crl"
HOUR = timedelta(hours=1)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def make_ca(*, name: str = "CN=CA", key: object = KEY, crl_sign: bool | None = None) -> x509.Certificate:
    """Return a CA. crl_sign: what its keyUsage says; None: it has none."""
    extensions: list[x509.ExtensionType] = [SKI]
    if crl_sign is not None:
        flags = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement"], False
        ) | {"encipher_only": False, "decipher_only": False, "digital_signature": True, "key_cert_sign": True}
        extensions.append(x509.KeyUsage(crl_sign=crl_sign, **flags))
    return make_certificate(key=key, subject=name, is_ca=True, extensions=extensions)


CA = make_ca()


def crl(*revoked: x509.RevokedCertificate | int, **parts: object) -> CRLIndex:
    return read_crl(make_crl(CA, KEY, revoked=revoked, **parts))  # type: ignore[arg-type]


def test_a_list_is_read_from_der_and_from_pem_with_text_around_it() -> None:
    der = make_crl(CA, KEY, revoked=[1, 2])
    text = b"Certificate Revocation List:\n" + x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) + b"\n"
    for content in (der, text):
        index = read_crl(content)
        assert (index.size, index.number) == (2, 7)
        assert (index.this_update, index.next_update) == (NOW - HOUR, NOW + timedelta(days=7))


@pytest.mark.parametrize("content", [b"", b"\x30\x00", b"<html>404</html>", b"-----BEGIN X509 CRL-----\nAAAA\n"])
def test_what_is_no_list_is_refused(content: bytes) -> None:
    with pytest.raises(CRLUnusable, match="no revocation list, or a damaged one"):
        read_crl(content)


@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_a_damaged_list_is_refused_or_its_signature_is_wrong(place: int, value: int) -> None:
    der = bytearray(DAMAGED)
    der[place % len(der)] = value
    try:
        index = read_crl(bytes(der))
        check_signed_by(index, CA)
        find_revoked(index, 5)
    except CRLUnusable:
        return
    # The one field outside of the signed part that may change unseen is none; the bytes are the same, or equivalent.
    assert index.crl.tbs_certlist_bytes == x509.load_der_x509_crl(DAMAGED).tbs_certlist_bytes


DAMAGED = make_crl(CA, KEY, revoked=[revoke(5, reason=x509.ReasonFlags.superseded)])


def test_the_issuers_own_list_passes() -> None:
    check_signed_by(crl(authority_key_id=SKI.digest), CA)
    check_signed_by(crl(), make_ca(crl_sign=True))


@pytest.mark.parametrize(
    ("index", "issuer", "why"),
    [
        (crl, lambda: make_ca(name="CN=Other"), "another issuer"),
        (lambda: read_crl(make_crl(CA, OTHER_KEY)), lambda: CA, "forged or damaged"),
        (lambda: crl(authority_key_id=b"\x01" * 20), lambda: CA, "another key"),
        (crl, lambda: make_ca(crl_sign=False), "cRLSign"),
    ],
    ids=["name", "signature", "authority-key", "key-usage"],
)
def test_a_list_that_is_not_the_issuers_is_refused(
    index: Callable[[], CRLIndex], issuer: Callable[[], x509.Certificate], why: str
) -> None:
    with pytest.raises(CRLUnusable, match=why):
        check_signed_by(index(), issuer())


def test_a_list_signed_with_a_key_of_another_kind_is_refused() -> None:
    rsa = make_key("rsa-2048")
    with pytest.raises(CRLUnusable):
        check_signed_by(crl(), make_certificate(key=rsa, subject="CN=CA", is_ca=True))


def test_a_list_is_valid_from_its_first_to_its_last_moment_and_a_little_before() -> None:
    index = crl(start=NOW, end=NOW + HOUR)
    check_dates(index, now=NOW)
    check_dates(index, now=NOW - timedelta(minutes=4))
    check_dates(index, now=NOW + HOUR - timedelta(seconds=1))
    with pytest.raises(CRLUnusable, match="of the future"):
        check_dates(index, now=NOW - timedelta(minutes=6))
    with pytest.raises(CRLUnusable, match="published no newer one"):
        check_dates(index, now=NOW + HOUR)


def test_a_list_without_an_end_is_refused() -> None:
    # The builder insists on nextUpdate: cut out of the DER by hand, with the lengths before it.
    der = make_crl(CA, KEY, number=None)
    parsed = x509.load_der_x509_crl(der)
    tbs = parsed.tbs_certlist_bytes
    end = parsed.next_update_utc
    assert end is not None
    field = b"\x17\x0d" + end.strftime("%y%m%d%H%M%SZ").encode()
    body = tbs[2 if tbs[1] < 0x80 else 3 :].replace(field, b"")
    forged = _sequence(_sequence(body) + der[der.index(tbs) + len(tbs) :])
    with pytest.raises(CRLUnusable, match="until when"):
        read_crl(forged)


def test_a_list_of_version_1_is_refused() -> None:
    der = make_crl(CA, KEY, number=None)
    tbs = x509.load_der_x509_crl(der).tbs_certlist_bytes
    body = tbs[2 if tbs[1] < 0x80 else 3 :].removeprefix(b"\x02\x01\x01")
    with pytest.raises(CRLUnusable, match="version 1"):
        read_crl(_sequence(_sequence(body) + der[der.index(tbs) + len(tbs) :]))


def _sequence(content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x81, size]) if size < 0x100 else b"\x82" + size.to_bytes(2)
    return b"\x30" + length + content


@pytest.mark.parametrize(
    ("before", "after", "follows"),
    [
        ((7, NOW), (8, NOW + HOUR), True),
        ((7, NOW), (7, NOW), True),
        ((7, NOW), (7, NOW - HOUR), False),
        ((7, NOW), (6, NOW + HOUR), False),
        ((7, NOW), (None, NOW + HOUR), False),
        ((None, NOW), (None, NOW), True),
        ((None, NOW), (None, NOW - HOUR), False),
        ((None, NOW), (1, NOW - HOUR), True),
        ((2**159 - 1, NOW), (2**159, NOW), True),
    ],
)
def test_an_older_list_can_not_take_the_place_of_a_newer_one(
    before: tuple[int | None, object], after: tuple[int | None, object], *, follows: bool
) -> None:
    index = crl(number=after[0], start=after[1])
    if follows:
        check_follows(index, number=before[0], this_update=before[1])  # type: ignore[arg-type]
        return
    with pytest.raises(CRLUnusable, match="played back"):
        check_follows(index, number=before[0], this_update=before[1])  # type: ignore[arg-type]


def test_a_number_of_more_than_20_octets_is_refused() -> None:
    assert crl(number=2**160 - 1).number == 2**160 - 1
    for number in (2**160, 2**50_000):
        with pytest.raises(CRLUnusable, match="20 octets"):
            crl(number=number)


def test_a_delta_is_refused() -> None:
    with pytest.raises(CRLUnusable, match="delta"):
        crl(extensions=[(x509.DeltaCRLIndicator(3), True)])


def test_an_unknown_critical_extension_of_the_list_is_refused_and_an_uncritical_one_ignored() -> None:
    assert crl(1, extensions=[(UNKNOWN, False)]).size == 1
    with pytest.raises(CRLUnusable, match=r"critical extension that is not known here \(1\.3\.6\.1\.4\.1\.99999\.1\)"):
        crl(extensions=[(UNKNOWN, True)])


@pytest.mark.parametrize("scope", [(), [(crl_scope(URL, user=True), True)]], ids=["plain", "beside-a-critical-scope"])
def test_an_unknown_critical_extension_of_any_entry_is_refused(scope: list[tuple[x509.ExtensionType, bool]]) -> None:
    assert crl(1, revoke(2, extensions=[(UNKNOWN, False)]), extensions=scope).size == 2
    assert crl(1, revoke(2, extensions=[(x509.InvalidityDate(NOW), True)]), extensions=scope).size == 2
    issuer = x509.CertificateIssuer([x509.DirectoryName(CA.subject)])
    for extension in (UNKNOWN, issuer):
        with pytest.raises(CRLUnusable, match="An entry of the list has a critical extension"):
            crl(1, revoke(2, extensions=[(extension, True)]), 3, extensions=scope)


def test_bytes_that_only_look_like_a_critical_mark_don_t_matter() -> None:
    serial = int.from_bytes(b"\x10\x01\x01\xff\x01\x01\xff")
    assert find_revoked(crl(1, serial), serial) is not None


def check(scope: x509.IssuingDistributionPoint, *, is_ca: bool = False) -> frozenset[str]:
    return check_scope(crl(extensions=[(scope, True)]), is_ca=is_ca, urls=frozenset({URL}))


def test_a_list_without_a_scope_covers_everything() -> None:
    assert check_scope(crl(), is_ca=False, urls=frozenset()) == REASONS


def test_a_scope_covers_the_certificates_and_reasons_that_it_says() -> None:
    assert check(crl_scope(URL)) == REASONS
    assert check(crl_scope("http://elsewhere.test/", URL)) == REASONS
    assert check(crl_scope(user=True)) == REASONS
    assert check(crl_scope(ca=True), is_ca=True) == REASONS
    some = frozenset({x509.ReasonFlags.key_compromise, x509.ReasonFlags.superseded})
    assert check(crl_scope(URL, reasons=some)) == {"keyCompromise", "superseded"}


@pytest.mark.parametrize(
    ("scope", "is_ca", "why"),
    [
        (crl_scope(URL + "x"), False, "another distribution point"),
        (crl_scope(URL.upper()), False, "another distribution point"),
        (crl_scope(URL, user=True), True, "no CA's"),
        (crl_scope(URL, ca=True), False, "another kind"),
        (crl_scope(URL, attribute=True), False, "another kind"),
        (crl_scope(URL, indirect=True), False, "indirect"),
        (
            crl_scope(relative=x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "x")])),
            False,
            "relative",
        ),
    ],
    ids=["url", "url-case", "user", "ca", "attribute", "indirect", "relative"],
)
def test_a_list_of_another_scope_is_refused(scope: x509.IssuingDistributionPoint, *, is_ca: bool, why: str) -> None:
    with pytest.raises(CRLUnusable, match=why):
        check(scope, is_ca=is_ca)


def test_a_serial_is_found_with_its_reason_and_date_and_another_one_is_not() -> None:
    at = NOW - timedelta(days=3)
    index = crl(4, revoke(5, reason=x509.ReasonFlags.key_compromise, at=at), 6)
    assert find_revoked(index, 5) == RevokedEntry("keyCompromise", at)
    assert find_revoked(index, 4) == RevokedEntry("unspecified", NOW - timedelta(days=1))
    assert find_revoked(index, 7) is None


def test_a_revocation_taken_back_outside_of_a_delta_is_refused() -> None:
    index = crl(revoke(5, reason=x509.ReasonFlags.remove_from_crl))
    with pytest.raises(CRLUnusable, match="removeFromCRL"):
        find_revoked(index, 5)


def test_a_list_of_20000_entries_is_read_in_less_than_a_second_and_looked_up_by_its_index() -> None:
    reason = x509.ReasonFlags.superseded
    index_of = make_crl(CA, KEY, revoked=[revoke(10**40 + n, reason=reason) for n in range(20_000)])
    start = time.process_time()
    index = read_crl(index_of)
    read_seconds = time.process_time() - start
    start = time.process_time()
    for serial in range(10_000):
        assert find_revoked(index, serial) is None
    missing_seconds = time.process_time() - start
    assert find_revoked(index, 10**40 + 19_999) == RevokedEntry("superseded", NOW - timedelta(days=1))
    assert read_seconds < 1.0
    assert missing_seconds < 0.1  # a search through the list takes 3 ms each: 30 s


def test_the_leaf_s_points_and_issuer_are_read_from_the_stored_chain() -> None:
    chain = make_chain(extensions=[distribution_points([URL, "ldap://x/", "HTTP://b.test/"], ["http://c.test/"])])
    leaf = read_leaf(chain.chain_pem)
    assert [point.urls for point in leaf.points] == [(URL, "HTTP://b.test/"), ("http://c.test/",)]
    assert all(point.reasons == REASONS for point in leaf.points)
    assert leaf.serial == chain.leaf.serial_number
    assert leaf.issuer == chain.issuers[0]
    assert not leaf.is_ca


def test_a_chain_without_the_issuer_or_with_a_forged_one_has_none() -> None:
    chain = make_chain(extensions=[distribution_points([URL])])
    assert read_leaf(chain.leaf_pem).issuer is None
    forged = make_certificate(key=OTHER_KEY, subject=chain.issuers[0].subject, is_ca=True)
    assert read_leaf(chain.leaf_pem + pem(forged)).issuer is None


def test_points_of_other_signers_and_of_some_reasons_are_told_apart() -> None:
    name = [x509.UniformResourceIdentifier(URL)]
    some = frozenset({x509.ReasonFlags.superseded})
    points = x509.CRLDistributionPoints(
        [
            x509.DistributionPoint(name, None, some, None),
            x509.DistributionPoint(name, None, None, [x509.DirectoryName(CA.subject)]),
        ]
    )
    first, second = read_leaf(make_chain(extensions=[points]).chain_pem).points
    assert (first.urls, set(first.reasons)) == ((URL,), {"superseded"})
    assert second.urls == ()


def test_a_certificate_with_too_many_urls_is_refused() -> None:
    urls = [f"http://{number}.test/" for number in range(MOST_URLS + 1)]
    with pytest.raises(BadMaterial, match="more than 16 URLs"):
        read_leaf(make_chain(extensions=[distribution_points(urls)]).chain_pem)


def test_an_issuer_is_its_name_and_its_key() -> None:
    renewed = make_certificate(key=KEY, subject="CN=CA", is_ca=True, days=1)
    assert identify_issuer(CA) == identify_issuer(renewed)
    assert identify_issuer(CA) != identify_issuer(make_ca(name="CN=Other"))
    assert identify_issuer(CA) != identify_issuer(make_ca(key=OTHER_KEY))
