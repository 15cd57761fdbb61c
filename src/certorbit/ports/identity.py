"""The identity provider: OpenID Connect, as the doors see it."""

from typing import Protocol

from certorbit.model.session import VerifiedClaims
from certorbit.model.sign_in import Attempt


class IdentityProvider(Protocol):
    """Whom people sign in with. It is asked twice per sign-in, and nothing of it is kept but its public keys."""

    async def authorization_url(self, attempt: Attempt) -> str:
        """Return where the browser is sent to. Raises Unreachable: the provider's metadata can't be had."""
        ...

    async def redeem(self, code: str, *, attempt: Attempt, issuer: str | None) -> VerifiedClaims:
        """Return who signed in. A code is redeemed once.

        Args:
            issuer: the `iss` of the answer, if it has one (RFC 9207).

        Raises:
            BadInput: the provider doesn't take the code (used before, too old, of another sign-in).
            NotAllowed: its answer can't be believed; subject `id_token`.
            Unreachable: it doesn't answer, or doesn't know this service.
        """
        ...

    async def close(self) -> None: ...
