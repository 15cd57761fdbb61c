"""Access tokens for Google's APIs: by google-auth, or one that stands in the settings."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import google.auth
import google.auth.transport.requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.oauth2 import service_account

from certorbit.errors import CredentialsRefused, Unreachable
from certorbit.net.json_exchange import safe_words
from certorbit.net.tries import Passing
from certorbit.target_settings import GCPTargetSettings

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)


class Tokens(Protocol):
    """Where access tokens come from."""

    async def get(self) -> str:
        """Return a token that should be good now. Raises CredentialsRefused, Passing."""
        ...

    def forget(self) -> bool:
        """Drop the token, for it was refused. Returns whether the next one will be another one."""
        ...


class FixedToken:
    """The token of the settings."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get(self) -> str:
        return self._token

    def forget(self) -> bool:
        return False


class GoogleTokens:
    """Tokens of a service account's key file, or of the environment (metadata server, workload identity).

    google-auth blocks, so it works in a thread; one refresh at a time.
    """

    def __init__(self, *, target: str, credentials_file: Path | None, seconds: float) -> None:
        self._target = target
        self._file = credentials_file
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._credentials: Any = None

    async def get(self) -> str:
        async with self._lock:
            if self._credentials is None:
                self._credentials = await self._run(self._load)
            if not self._credentials.valid:
                await self._run(self._refresh)
            return str(self._credentials.token)

    def forget(self) -> bool:
        if self._credentials is not None:
            self._credentials.token = None
        return True

    def _load(self) -> Any:
        if self._file is not None:
            read = service_account.Credentials.from_service_account_file
            return read(str(self._file), scopes=_SCOPES)  # type: ignore[no-untyped-call]
        credentials, _ = google.auth.default(scopes=_SCOPES)
        return credentials

    def _refresh(self) -> None:
        request = google.auth.transport.requests.Request()
        self._credentials.refresh(partial(request, timeout=self._seconds))

    async def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.to_thread(work)
        except TransportError as error:
            raise Passing(self._unreachable(error)) from error
        except RefreshError as error:
            if error.retryable:
                raise Passing(self._unreachable(error)) from error
            raise self._refused(error) from error
        except (GoogleAuthError, OSError, ValueError) as error:
            raise self._refused(error) from error

    def _unreachable(self, error: GoogleAuthError) -> Unreachable:
        return Unreachable(
            f"Target {self._target}: no access token, the token server doesn't answer ({type(error).__name__}).",
            subject=self._target,
            phase="read",
        )

    def _refused(self, error: Exception) -> CredentialsRefused:
        reason = safe_words(str(error)) if isinstance(error, GoogleAuthError) else type(error).__name__
        source = f"credentials_file {self._file}" if self._file else "the environment's credentials"
        return CredentialsRefused(
            f"Target {self._target}: no access token by {source}: {reason}.", subject=self._target
        )


def make_tokens(settings: GCPTargetSettings) -> Tokens:
    """Return the source that the settings name."""
    if settings.token is not None:
        return FixedToken(settings.token.get_secret_value())
    return GoogleTokens(
        target=settings.name, credentials_file=settings.credentials_file, seconds=settings.timeout_seconds
    )
