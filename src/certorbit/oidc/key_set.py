"""The provider's public keys, out of a JWK set (RFC 7517), and which one a token's signature is checked with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

PublicKey = RSAKey | ECKey | OKPKey
MOST_KEYS: Final = 100  # providers have two or three
_SMALLEST_RSA, _LARGEST_RSA = 2048, 8192  # bits; RFC 7518 §3.3; a larger one only costs time
_SHORTEST_MODULUS, _LONGEST_MEMBER = 342, 1366  # the same in base64url
_TYPES: Final[Mapping[str, type[RSAKey] | type[ECKey] | type[OKPKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


@dataclass(frozen=True, slots=True)
class _Known:
    kid: str | None
    algorithms: frozenset[str]
    key: PublicKey


class KeySet:
    """Keys that signatures may be checked with. What else is in the set (secrets, other types) is left out."""

    def __init__(self, entries: Iterable[_Known]) -> None:
        self._entries = tuple(entries)

    def find(self, kid: str | None, *, algorithm: str) -> PublicKey | None:
        """Return the key for a signature of the algorithm; None: there is none, or it isn't clear which.

        kid: as the token has it; without one only a single fitting key will do (OpenID Connect Core 1.0 §10.1).
        """
        fitting = [entry for entry in self._entries if algorithm in entry.algorithms]
        if kid is not None:
            fitting = [entry for entry in fitting if entry.kid == kid]
        return fitting[0].key if len(fitting) == 1 else None


def read_key_set(document: Mapping[str, Any]) -> KeySet:
    """Return the keys of the document; what can't be used is left out."""
    listed = document.get("keys")
    found = [_read(jwk) for jwk in (listed if isinstance(listed, list) else [])[:MOST_KEYS]]
    return KeySet(entry for entry in found if entry is not None)


def _read(jwk: Any) -> _Known | None:
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    kind = _TYPES.get(jwk["kty"]) if isinstance(jwk.get("kty"), str) else None
    if kind is None or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        # Only what a public key has: a private part that somebody published is not looked at.
        public = {name: jwk[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in jwk}
        if any(not isinstance(value, str) or len(value) > _LONGEST_MEMBER for value in public.values()):
            return None
        if kind is RSAKey and len(public["n"]) < _SHORTEST_MODULUS:
            return None
        key = kind.import_key(public)
        algorithms = _algorithms_of(key)
    except (JoseError, ValueError, TypeError, KeyError, OverflowError):
        return None
    if (own := jwk.get("alg")) is not None:
        algorithms &= {own} if isinstance(own, str) else set()
    kid = jwk.get("kid")
    return _Known(kid if isinstance(kid, str) else None, algorithms, key)


def _algorithms_of(key: PublicKey) -> frozenset[str]:
    """Return what this key may check: by what it is, so that no token can use it as something else."""
    match key.public_key:
        case rsa.RSAPublicKey() as public if _SMALLEST_RSA <= public.key_size <= _LARGEST_RSA:
            return frozenset({"RS256", "PS256"})
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return frozenset({"ES256"})
        case ed25519.Ed25519PublicKey():
            return frozenset({"EdDSA", "Ed25519"})
        case _:
            return frozenset()
