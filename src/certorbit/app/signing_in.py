"""Joins signing in by OpenID Connect."""

from certorbit.api.sign_in import CALLBACK_PATH
from certorbit.app.ground import CLOCK
from certorbit.errors import BadInput
from certorbit.ports.identity import IdentityProvider
from certorbit.settings import Settings


def make_identity_provider(settings: Settings) -> IdentityProvider | None:
    """Return whom people sign in with; None: nobody signs in.

    Raises:
        BadInput: the extra is not installed, or ca_bundle can't be read.
    """
    if not settings.oidc.is_on:
        return None
    try:
        from certorbit.oidc.provider import OIDCProvider  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BadInput(
            f"[oidc]: the package {error.name} is missing; install it with pip install 'certorbit[oidc]'.",
            subject="oidc",
        ) from error
    redirect_uri = f"{settings.public_url.rstrip('/')}{CALLBACK_PATH}"
    return OIDCProvider(settings.oidc, redirect_uri=redirect_uri, clock=CLOCK)
