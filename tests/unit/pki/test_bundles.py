"""CA bundles and what is shown to servers: order, purposes, ends, and the revocation lists that come with a bundle."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from certorbit.errors import NEVER, BadIssue, BadMaterial
from certorbit.model.entry import Side
from certorbit.pki.chain import check_for_clients
from certorbit.pki.crl import check_bundle_crls, read_crls
from certorbit.pki.pem import read_certificates
from certorbit.pki.upload import MOST_AUTHORITIES, read_upload
from make import NOW, Chain, make_certificate, make_chain, make_crl, make_key, pem

ROOT_KEY, MIDDLE_KEY, ISSUING_KEY = (make_key(index=800 + number) for number in range(3))
ROOT = make_certificate(key=ROOT_KEY, subject="CN=Root", is_ca=True, days=3650)
MIDDLE = make_certificate(key=MIDDLE_KEY, subject="CN=Middle", issuer=ROOT, issuer_key=ROOT_KEY, is_ca=True, days=900)
ISSUING = make_certificate(
    key=ISSUING_KEY, subject="CN=Issuing", issuer=MIDDLE, issuer_key=MIDDLE_KEY, is_ca=True, days=400
)
OTHER = make_certificate(key=make_key(index=803), subject="CN=Other", is_ca=True, days=30)
# The same CA twice: signed by itself and by another one.
CROSS_SIGNED = make_certificate(
    key=ROOT_KEY, subject="CN=Root", issuer=OTHER, issuer_key=make_key(index=803), is_ca=True, days=700
)


def read_bundle(*certificates: x509.Certificate) -> Sequence[x509.Certificate]:
    return read_certificates(read_upload(pem(*certificates), "", side=Side.CLIENT_CA).chain_pem)


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    flags = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs_certificates, crl_sign=True, **flags)


def crl_of(ca: x509.Certificate, key: object) -> str:
    return x509.load_der_x509_crl(make_crl(ca, key)).public_bytes(Encoding.PEM).decode()


ROOT_LIST, MIDDLE_LIST = crl_of(ROOT, ROOT_KEY), crl_of(MIDDLE, MIDDLE_KEY)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((ROOT, MIDDLE, ISSUING), (ISSUING, MIDDLE, ROOT)),
        ((MIDDLE, ROOT, ISSUING), (ISSUING, MIDDLE, ROOT)),
        ((OTHER, ROOT, MIDDLE), (OTHER, MIDDLE, ROOT)),
        ((ROOT, OTHER), (ROOT, OTHER)),
        ((ROOT, MIDDLE, ROOT), (MIDDLE, ROOT)),
        ((CROSS_SIGNED, OTHER, MIDDLE), (MIDDLE, CROSS_SIGNED, OTHER)),
    ],
    ids=["upside-down", "mixed", "beside-another", "unrelated", "twice", "cross-signed"],
)
def test_a_bundle_is_put_in_path_order(given: tuple[x509.Certificate, ...], kept: tuple[x509.Certificate, ...]) -> None:
    assert tuple(read_bundle(*given)) == kept


def test_cas_that_signed_each_other_are_all_kept() -> None:
    first, second = make_key(index=810), make_key(index=811)
    one = make_certificate(key=first, subject="CN=One", is_ca=True)
    two = make_certificate(key=second, subject="CN=Two", is_ca=True)
    crossed = [
        make_certificate(key=first, subject="CN=One", issuer=two, issuer_key=second, is_ca=True),
        make_certificate(key=second, subject="CN=Two", issuer=one, issuer_key=first, is_ca=True),
    ]
    assert set(read_bundle(*crossed, one, two)) == {*crossed, one, two}


def test_a_bundle_ends_when_the_first_of_its_cas_does() -> None:
    material = read_upload(pem(ROOT, MIDDLE), "", side=Side.CLIENT_CA)
    assert material.facts.subject == "CN=Middle"
    assert read_upload(pem(MIDDLE, OTHER), "", side=Side.CLIENT_CA).facts.not_after == NOW + timedelta(days=30)


def test_a_ca_that_may_not_sign_certificates_is_refused() -> None:
    able = make_certificate(key=make_key(), subject="CN=Able", is_ca=True, extensions=[usage(signs_certificates=True)])
    unable = make_certificate(
        key=make_key(), subject="CN=Unable", is_ca=True, extensions=[usage(signs_certificates=False)]
    )
    assert read_bundle(able) == (able,)
    with pytest.raises(BadMaterial, match="'CN=Unable' may not sign certificates") as refused:
        read_bundle(able, unable)
    assert refused.value.subject == "cert_body"


def test_more_cas_than_anybody_trusts_are_refused() -> None:
    key = make_key("ed25519")
    many = [
        make_certificate(key=key, subject="CN=Root", is_ca=True, serial=number)
        for number in range(1, MOST_AUTHORITIES + 2)
    ]
    assert len(read_bundle(*many[1:])) == MOST_AUTHORITIES
    with pytest.raises(BadMaterial, match=f"at most {MOST_AUTHORITIES}"):
        read_bundle(*many)


def test_lists_of_all_cas_go_with_their_bundle() -> None:
    check_bundle_crls(read_crls([ROOT_LIST, MIDDLE_LIST]), bundle_pem=pem(MIDDLE, ROOT))
    check_bundle_crls(read_crls([ROOT_LIST]), bundle_pem=pem(CROSS_SIGNED, ROOT))
    check_bundle_crls((), bundle_pem=pem(MIDDLE, ROOT))


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        (
            [ROOT_LIST, crl_of(OTHER, make_key(index=803))],
            r"item 2 \(of 'CN=Other'\) is not signed by a CA of the bundle",
        ),
        ([crl_of(ROOT, MIDDLE_KEY)], r"item 1 \(of 'CN=Root'\) is not signed .* forged or damaged"),
        ([MIDDLE_LIST], "no list is of 'CN=Root'"),
    ],
    ids=["another-ca's", "forged", "one-missing"],
)
def test_lists_that_nobody_could_be_checked_by_are_refused(lists: list[str], says: str) -> None:
    with pytest.raises(BadMaterial, match=says) as refused:
        check_bundle_crls(read_crls(lists), bundle_pem=pem(MIDDLE, ROOT))
    assert refused.value.subject == "crl"


def leaf_for(*purposes: x509.ObjectIdentifier) -> Chain:
    extensions = [x509.ExtendedKeyUsage(purposes)] if purposes else []
    return make_chain(names=["client.example.com"], extensions=extensions)


FOR_CLIENTS = [
    (),
    (ExtendedKeyUsageOID.CLIENT_AUTH,),
    (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,),
]


@pytest.mark.parametrize("purposes", FOR_CLIENTS, ids=["nothing-said", "client", "both", "any"])
def test_what_is_for_clients_can_be_shown_to_backends(purposes: tuple[x509.ObjectIdentifier, ...]) -> None:
    chain = leaf_for(*purposes)
    read_upload(chain.chain_pem, chain.key_pem, side=Side.SERVER_TO_BACKEND_MTLS)
    check_for_clients(chain.chain_pem)


def test_what_is_for_servers_alone_can_not() -> None:
    chain = leaf_for(ExtendedKeyUsageOID.SERVER_AUTH)
    read_upload(chain.chain_pem, chain.key_pem, side=Side.SERVER)
    with pytest.raises(BadMaterial, match="lacks clientAuth") as refused:
        read_upload(chain.chain_pem, chain.key_pem, side=Side.SERVER_TO_BACKEND_MTLS)
    assert refused.value.subject == "cert_body"
    with pytest.raises(BadIssue, match="built-in CA") as bad:
        check_for_clients(chain.chain_pem)
    assert bad.value.retry == NEVER
