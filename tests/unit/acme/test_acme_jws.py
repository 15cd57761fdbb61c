"""Signatures, against the published vectors."""

import hmac
import json
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certorbit.acme.jws import AccountKey, decode_base64url, encode_base64url, encode_binding, encode_jws, thumbprint
from certorbit.errors import Broken

# RFC 7515 appendix A.3.1
A3_D = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
A3_JWK = {
    "crv": "P-256",
    "kty": "EC",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


def a3_key() -> AccountKey:
    return AccountKey(ec.derive_private_key(int.from_bytes(decode_base64url(A3_D), "big"), ec.SECP256R1()))


def test_base64url_is_that_of_rfc_7515_appendix_c() -> None:
    assert encode_base64url(bytes([3, 236, 255, 224, 193])) == "A-z_4ME"
    assert decode_base64url("A-z_4ME") == bytes([3, 236, 255, 224, 193])


@pytest.mark.parametrize("text", ["A-z_4ME=", "A+z/4ME", " A-z_4ME\n"])
def test_a_pasted_key_may_be_padded_or_in_the_other_alphabet(text: str) -> None:
    assert decode_base64url(text) == bytes([3, 236, 255, 224, 193])


@pytest.mark.parametrize("text", ["A", "ä", "a b!"])
def test_what_is_not_base64url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not base64url|ASCII"):
        decode_base64url(text)


def test_the_thumbprint_is_that_of_rfc_7638_section_3_1() -> None:
    jwk = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi"
        "FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d"
        "0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-cs"
        "FCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
    }
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_the_public_key_is_that_of_rfc_7515_appendix_a_3() -> None:
    assert a3_key().jwk == A3_JWK
    assert a3_key().thumbprint == "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"


def test_a_signature_is_r_and_s_of_es256() -> None:
    signature = a3_key().sign(b"signed")
    assert len(signature) == 64
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    x, y = (int.from_bytes(decode_base64url(A3_JWK[name]), "big") for name in "xy")
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(der, b"signed", ec.ECDSA(hashes.SHA256()))


def test_a_request_names_the_account_and_post_as_get_has_an_empty_payload() -> None:
    body = json.loads(encode_jws(None, key=a3_key(), kid="https://ca/1", nonce="n", url="https://ca/order/1"))
    assert body["payload"] == ""
    header = json.loads(decode_base64url(body["protected"]))
    assert header == {"alg": "ES256", "kid": "https://ca/1", "nonce": "n", "url": "https://ca/order/1"}


def test_a_registration_holds_the_public_key() -> None:
    body = json.loads(encode_jws({}, key=a3_key(), kid=None, nonce="n", url="https://ca/new"))
    assert decode_base64url(body["payload"]) == b"{}"
    assert json.loads(decode_base64url(body["protected"]))["jwk"] == A3_JWK


def test_an_external_binding_is_signed_with_the_key_of_the_ca() -> None:
    binding = encode_binding(A3_JWK, kid="kid-1", hmac_key=b"secret", url="https://ca/new")
    header = json.loads(decode_base64url(binding["protected"]))
    assert header == {"alg": "HS256", "kid": "kid-1", "url": "https://ca/new"}
    assert json.loads(decode_base64url(binding["payload"])) == A3_JWK
    mac = hmac.new(b"secret", f"{binding['protected']}.{binding['payload']}".encode(), sha256).digest()
    assert decode_base64url(binding["signature"]) == mac


def test_a_key_survives_its_pem_and_never_shows_itself() -> None:
    key = AccountKey.generate()
    again = AccountKey.from_pem(key.to_pem())
    assert again.jwk == key.jwk
    assert repr(again) == f"<account key {key.thumbprint}>"


def test_another_kind_of_key_is_a_bug_of_ours() -> None:
    pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for wrong in (pem, b"no key"):
        with pytest.raises(Broken):
            AccountKey.from_pem(wrong)
