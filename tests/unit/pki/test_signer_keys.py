"""Keys of CAs that are made to be slow: no signature is checked with one, whoever gave it."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from certorbit.errors import BadIssue, BadMaterial
from certorbit.model.entry import Side
from certorbit.pki.chain import check_issue
from certorbit.pki.pfx_child import _put_in_order
from certorbit.pki.upload import read_upload
from make import NOW, make_certificate, make_chain, make_key, pem

CHAIN = make_chain(names=["www.example.test"])


class Slow:
    """A key of which only the public half is there: nobody ever signed with it."""

    def __init__(self, bits: int, exponent: int) -> None:
        self._public = RSAPublicNumbers(exponent, 2**bits - 1).public_key()

    def public_key(self) -> object:
        return self._public


def make_ca(bits: int, exponent: int) -> x509.Certificate:
    return make_certificate(
        key=Slow(bits, exponent), subject="CN=Slow", is_ca=True, issuer=CHAIN.issuers[0], issuer_key=make_key(), days=9
    )


TOO_LONG, ODD = make_ca(16_384, 65_537), make_ca(4096, 2**63 + 1)
SLOW = pytest.mark.parametrize(
    ("authority", "says"),
    [(TOO_LONG, "'CN=Slow': a CA's RSA key of 16384 bits is too long"), (ODD, "with an exponent of 64 bits")],
    ids=["bits", "exponent"],
)


@SLOW
@pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT_CA])
def test_an_upload_with_one_is_refused(authority: x509.Certificate, says: str, side: Side) -> None:
    given = pem(authority) if side.is_ca_bundle else CHAIN.chain_pem + pem(authority)
    with pytest.raises(BadMaterial, match=f"^cert_body: .*{says}") as caught:
        read_upload(given, "" if side.is_ca_bundle else CHAIN.key_pem, side=side)
    assert caught.value.subject == "cert_body"


@SLOW
def test_a_store_with_one_is_refused(authority: x509.Certificate, says: str) -> None:
    with pytest.raises(BadMaterial, match=f"^fileName: .*{says}"):
        _put_in_order([CHAIN.leaf, *CHAIN.issuers, authority], None)


@SLOW
def test_a_cas_answer_with_one_is_a_bad_issue(authority: x509.Certificate, says: str) -> None:
    with pytest.raises(BadIssue, match=says):
        check_issue(CHAIN.chain_pem + pem(authority), identifiers=["www.example.test"], public_key_sha256="", now=NOW)


def test_the_longest_keys_in_use_are_taken() -> None:
    for usual in (make_ca(8192, 65_537), make_ca(4096, 3)):
        assert read_upload(CHAIN.chain_pem + pem(usual), CHAIN.key_pem, side=Side.SERVER).chain_pem == CHAIN.chain_pem
