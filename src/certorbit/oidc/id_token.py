"""Checks ID tokens (OpenID Connect Core 1.0 §3.1.3.7). Signatures are joserfc's; what must be true is said here."""

import base64
import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry

from certorbit.errors import NotAllowed
from certorbit.model.session import VerifiedClaims
from certorbit.oidc.key_set import KeySet

SKEW: Final = timedelta(seconds=60)  # by which the provider's clock and ours may differ
LONGEST_TOKEN: Final = 65_536  # characters; some providers list hundreds of groups in it
_LONGEST_HEADER: Final = 4096
# OpenID Connect Core 1.0 §3.1.3.6: the hash of the signature's own algorithm; Ed25519's is SHA-512 (RFC 8032 §5.1).
_HASHES: Final = {"EdDSA": "sha512", "Ed25519": "sha512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token must say. algorithms: those that the settings allow."""

    issuer: str
    client_id: str
    nonce: str
    algorithms: Collection[str]


class _Registry(JWSRegistry):
    """joserfc's rules, with the allowed algorithms alone."""

    max_header_length = _LONGEST_HEADER
    max_payload_length = LONGEST_TOKEN

    def __init__(self, algorithms: Collection[str]) -> None:
        # Not strict: a header that nobody knows is ignored (RFC 7515 §4), unless `crit` names it, which is checked.
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        """Return the algorithm; unlike the original without a warning about the name EdDSA, which providers use."""
        if self.allowed is None or name not in self.allowed or name not in self.algorithms:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


def read_header(token: str, *, algorithms: Collection[str]) -> tuple[str, str | None]:
    """Return algorithm and key id of a token that is not checked yet: by them its key is looked for.

    Raises:
        NotAllowed: it is no compact JWS, or of an algorithm that the settings don't allow (`none`, HMAC, ...).
    """
    if len(token) > LONGEST_TOKEN or not token.isascii():
        raise distrust("is too long")
    try:
        header = jws.extract_compact(token.encode("ascii"), registry=_Registry(algorithms)).headers()
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise distrust("is no signed token") from error
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise distrust(f"is signed with none of {', '.join(algorithms)}")
    if kid is not None and not isinstance(kid, str):
        raise distrust("has a key id that is no text")
    return algorithm, kid


def verify(token: str, *, keys: KeySet, expected: Expected, access_token: str | None, now: datetime) -> VerifiedClaims:
    """Return the token's claims.

    Args:
        keys: the provider's; a key that the token brings or points to is never looked at.
        access_token: what came with it; its hash is compared if the token has one.

    Raises:
        NotAllowed: it can't be believed; the message says why, and quotes nothing of it.
    """
    algorithm, kid = read_header(token, algorithms=expected.algorithms)
    key = keys.find(kid, algorithm=algorithm)
    if key is None:
        raise distrust("is signed with a key that the provider doesn't publish")
    try:
        claims = jwt.decode(token, key, registry=_Registry([algorithm])).claims
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise distrust("has a signature that is not the provider's") from error
    _check_parties(claims, expected)
    _check_times(claims, now=now)
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise distrust("is of another sign-in (nonce)")
    _check_access_token(claims, access_token, algorithm=algorithm)
    return VerifiedClaims(claims)


def distrust(why: str) -> NotAllowed:
    """Return the refusal of a token."""
    return NotAllowed(
        f"The identity provider's answer can't be believed: its ID token {why}. Begin again at /auth/login; if that"
        " doesn't help, an administrator has to look at [oidc] and at the provider.",
        subject="id_token",
    )


def _check_parties(claims: Mapping[str, Any], expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise distrust("is of another issuer (iss)")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    if expected.client_id not in audiences:
        raise distrust("is for somebody else (aud)")
    # §3.1.3.7, 3 to 5: one that is for others too must say that it was given to us.
    azp = claims.get("azp")
    if (azp is not None or len(audiences) > 1) and azp != expected.client_id:
        raise distrust("was given to somebody else (azp)")


def _check_times(claims: Mapping[str, Any], *, now: datetime) -> None:
    instant, skew = now.timestamp(), SKEW.total_seconds()
    if instant >= _time(claims.get("exp")) + skew:
        raise distrust("is over (exp); or the clocks differ")
    if max(_time(claims.get("iat")), _time(claims.get("nbf", 0))) > instant + skew:
        raise distrust("is of the future (iat, nbf); or the clocks differ")


def _time(value: Any) -> float:
    """Return seconds since 1970 (RFC 7519 §2, NumericDate)."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < 1e12:  # nor NaN
        raise distrust("lacks a time, or has one that is no number (exp, iat, nbf)")
    return float(value)


def _check_access_token(claims: Mapping[str, Any], access_token: str | None, *, algorithm: str) -> None:
    given = claims.get("at_hash")
    if given is None:
        return
    octets = hashlib.new(_HASHES.get(algorithm, "sha256"), (access_token or "").encode()).digest()
    half = base64.urlsafe_b64encode(octets[: len(octets) // 2]).rstrip(b"=")
    if access_token is None or not isinstance(given, str) or not hmac.compare_digest(given.encode(), half):
        raise distrust("doesn't go with the access token (at_hash)")
