"""The identity provider, as `ports.identity` wants it: authorization code flow with PKCE (RFC 7636, S256)."""

import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit, urlunsplit

import structlog

from certorbit.clock import Clock
from certorbit.errors import BadInput, Unreachable
from certorbit.model.session import VerifiedClaims
from certorbit.model.sign_in import Attempt
from certorbit.oidc import id_token
from certorbit.oidc.fetching import ProviderAnswer, ProviderHTTP, unreachable
from certorbit.oidc.metadata import Metadata, ProviderMetadata
from certorbit.oidc_settings import OIDCSettings

log = structlog.get_logger(__name__)

_LONGEST_TOKEN: Final = 65_536  # characters of an access token, which is used once and not kept
_PROTOCOL: Final = frozenset({"iss", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "sub"})


class OIDCProvider:
    """redirect_uri: our callback, as it is registered with the provider."""

    def __init__(self, settings: OIDCSettings, *, redirect_uri: str, clock: Clock) -> None:
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._clock = clock
        self._http = ProviderHTTP(ca_bundle=settings.ca_bundle, seconds=settings.timeout_seconds)
        self._metadata = ProviderMetadata(settings.issuer, http=self._http, clock=clock)

    async def authorization_url(self, attempt: Attempt) -> str:
        metadata = await self._metadata.get()
        parts = urlsplit(metadata.authorization_endpoint)
        query = [
            *parse_qsl(parts.query, keep_blank_values=True),  # RFC 6749 §3.1: what is there MUST be retained
            ("response_type", "code"),
            ("client_id", self._settings.client_id),
            ("redirect_uri", self._redirect_uri),
            ("scope", " ".join(self._settings.scopes)),
            ("state", attempt.state),
            ("nonce", attempt.nonce),
            ("code_challenge", attempt.challenge),
            ("code_challenge_method", "S256"),
        ]
        return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))

    async def redeem(self, code: str, *, attempt: Attempt, issuer: str | None) -> VerifiedClaims:
        metadata = await self._metadata.get()
        # RFC 9207 §2.4: an answer of another issuer's is never redeemed here.
        if issuer != self._settings.issuer and (issuer is not None or metadata.names_issuer):
            raise BadInput(
                "The answer is of another identity provider (iss); begin again at /auth/login.", subject="iss"
            )
        answer = await self._ask_for_tokens(metadata, code, attempt)
        token, access_token = _read_tokens(answer, host=_host(metadata.token_endpoint))
        algorithm, kid = id_token.read_header(token, algorithms=self._settings.algorithms)
        claims = id_token.verify(
            token,
            keys=await self._metadata.keys_for(kid, algorithm=algorithm),
            expected=id_token.Expected(
                issuer=self._settings.issuer,
                client_id=self._settings.client_id,
                nonce=attempt.nonce,
                algorithms=self._settings.algorithms,
            ),
            access_token=access_token,
            now=self._clock.now(),
        )
        return await self._complete(metadata, claims, access_token)

    async def close(self) -> None:
        await self._http.close()

    async def _ask_for_tokens(self, metadata: Metadata, code: str, attempt: Attempt) -> ProviderAnswer:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": attempt.verifier,
        }
        client_id, secret = self._settings.client_id, self._settings.client_secret.get_secret_value()
        headers: dict[str, str] = {}
        methods = metadata.token_methods
        if not secret:
            form["client_id"] = client_id
        elif "client_secret_post" in methods and "client_secret_basic" not in methods:
            form |= {"client_id": client_id, "client_secret": secret}
        else:  # what counts where a provider says nothing (OpenID Connect Discovery 1.0 §3)
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"  # RFC 6749 §2.3.1
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return await self._http.post_form(metadata.token_endpoint, form, headers=headers)

    async def _complete(self, metadata: Metadata, claims: VerifiedClaims, access_token: str | None) -> VerifiedClaims:
        """Add what the userinfo endpoint says, where the token itself lacks the role's claim, or the email."""
        wanted = self._settings.role_claim.partition(".")[0]
        is_there = self._settings.role_claim in claims or wanted in claims
        is_there = is_there and ("email" in claims or "email" not in self._settings.scopes)
        if is_there or not metadata.userinfo_endpoint or access_token is None:
            return claims
        answer = await self._http.get(metadata.userinfo_endpoint, headers={"Authorization": f"Bearer {access_token}"})
        # OpenID Connect Core 1.0 §5.3.2: of another `sub` it MUST NOT be used.
        if answer.status != 200 or answer.body.get("sub") != claims.get("sub"):
            log.warning("oidc.userinfo_failed", status=answer.status)
            return claims
        # An address and whether it is verified belong together: both are of one source.
        mails = {"email", "email_verified"}
        left_out = _PROTOCOL | mails if "email" in claims else _PROTOCOL
        own = claims if "email" in claims else {name: value for name, value in claims.items() if name not in mails}
        more: Mapping[str, Any] = {name: value for name, value in answer.body.items() if name not in left_out}
        return VerifiedClaims({**more, **own})


def _read_tokens(answer: ProviderAnswer, *, host: str) -> tuple[str, str | None]:
    """Return ID token and access token of the token endpoint's answer."""
    if answer.status != 200:
        raise _refusal(answer, host=host)
    token: Any = answer.body.get("id_token")
    access_token: Any = answer.body.get("access_token")
    if not isinstance(token, str) or not token:
        raise id_token.distrust("is missing")
    is_text = isinstance(access_token, str) and 0 < len(access_token) <= _LONGEST_TOKEN
    return token, access_token if is_text and access_token.isascii() and access_token.isprintable() else None


def _refusal(answer: ProviderAnswer, *, host: str) -> BadInput | Unreachable:
    word = answer.body.get("error")
    log.warning("oidc.code_refused", status=answer.status, error=word if word in _WORDS else "other")
    if word == "invalid_grant":
        return BadInput(
            "The identity provider doesn't take this sign-in (any more): it was used, or took too long. Begin again at"
            " /auth/login.",
            subject="code",
        )
    if word in {"invalid_client", "unauthorized_client"}:
        why = "it doesn't take this service's client_id or client_secret ([oidc])"
        return unreachable(host, why, phase="answer")
    return unreachable(host, f"it answered {answer.status} to the sign-in's code", phase="answer")


# RFC 6749 §5.2
_WORDS: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
