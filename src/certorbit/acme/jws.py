"""JSON Web Signatures as ACME wants them (RFC 8555 §6.2): flattened JSON, ES256; and the account key that signs."""

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from certorbit.errors import Broken

_ES256: Final = ec.ECDSA(hashes.SHA256())
_COORDINATE_BYTES = 32  # RFC 7518 §3.4: R and S as 32 octets each


def encode_base64url(octets: bytes) -> str:
    """Return base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """Return the octets of base64url text; padding and the standard alphabet are tolerated (people paste both).

    Raises:
        ValueError: it is neither.
    """
    plain = text.strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


class AccountKey:
    """A P-256 account key (RFC 8555 §11.1: never a certificate's key). `repr` shows its thumbprint only.

    ECDSA because an RSA signature costs ten times as much CPU and each request needs one (facts.md 4).
    """

    __slots__ = ("_key", "jwk", "thumbprint")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        numbers = key.public_key().public_numbers()
        self._key = key
        self.jwk: dict[str, str] = {
            "crv": "P-256",
            "kty": "EC",
            "x": encode_base64url(numbers.x.to_bytes(_COORDINATE_BYTES, "big")),
            "y": encode_base64url(numbers.y.to_bytes(_COORDINATE_BYTES, "big")),
        }
        self.thumbprint = thumbprint(self.jwk)

    @classmethod
    def generate(cls) -> "AccountKey":
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> "AccountKey":
        """Return the key of unencrypted PKCS#8 PEM.

        Raises:
            Broken: it holds another kind of key; we stored it ourselves.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise Broken("the stored account key is not a PEM key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Broken("the stored account key is not a P-256 key")
        return cls(key)

    def to_pem(self) -> bytes:
        """Return unencrypted PKCS#8 PEM, to be sealed at once."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, octets: bytes) -> bytes:
        """Return the ES256 signature, R then S (RFC 7518 §3.4)."""
        r, s = decode_dss_signature(self._key.sign(octets, _ES256))
        return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")

    def __repr__(self) -> str:
        return f"<account key {self.thumbprint}>"


def thumbprint(jwk: dict[str, str]) -> str:
    """Return the base64url SHA-256 thumbprint of a JWK that holds its required members only (RFC 7638 §3)."""
    return encode_base64url(hashlib.sha256(orjson.dumps(jwk, option=orjson.OPT_SORT_KEYS)).digest())


def encode_jws(payload: dict[str, Any] | None, *, key: AccountKey, kid: str | None, nonce: str, url: str) -> bytes:
    """Return the body of a signed request.

    Args:
        payload: None for POST-as-GET, whose payload is the empty string (RFC 8555 §6.3).
        kid: the account's URL; None puts the public key into the header, for newAccount (RFC 8555 §6.2).
    """
    protected: dict[str, Any] = {"alg": "ES256", "nonce": nonce, "url": url}
    if kid is None:
        protected["jwk"] = key.jwk
    else:
        protected["kid"] = kid
    header, body = _encode_parts(protected, payload)
    return orjson.dumps(_flatten(header, body, key.sign(f"{header}.{body}".encode())))


def encode_binding(jwk: dict[str, str], *, kid: str, hmac_key: bytes, url: str) -> dict[str, str]:
    """Return the external account binding: the account's public key signed with the CA's HMAC key (RFC 8555 §7.3.4).

    Args:
        kid: the key id that the CA gave together with `hmac_key`.
        url: of newAccount.
    """
    header, body = _encode_parts({"alg": "HS256", "kid": kid, "url": url}, jwk)
    return _flatten(header, body, hmac.digest(hmac_key, f"{header}.{body}".encode(), "sha256"))


def _encode_parts(protected: dict[str, Any], payload: dict[str, Any] | None) -> tuple[str, str]:
    header = encode_base64url(orjson.dumps(protected))
    return header, "" if payload is None else encode_base64url(orjson.dumps(payload))


def _flatten(header: str, body: str, signature: bytes) -> dict[str, str]:
    return {"protected": header, "payload": body, "signature": encode_base64url(signature)}
