"""Whether the service at an https URL is the one that is meant: by a CA of the house, or by its fingerprint."""

import hmac
import re
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.client import HTTPResponse, HTTPSConnection
from typing import Any
from urllib.request import HTTPSHandler, Request

from certorbit.errors import BadInput

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ServerTrust:
    """ca_file: PEM file with the only CAs that count; "": the system's. fingerprint: `sha256:` and hex; "": any.

    A fingerprint alone is enough: it is a self-signed certificate's only proof. With both, both have to be right.
    """

    ca_file: str = ""
    fingerprint: str = ""

    def handler(self) -> HTTPSHandler:
        """Return what urllib speaks HTTPS with; nothing of a request is sent to another service.

        Raises:
            BadInput: the file is none of CA certificates, or the fingerprint is none.
        """
        context = self._make_context()
        return (
            _PinnedHandler(context, pin=self._read_fingerprint()) if self.fingerprint else HTTPSHandler(context=context)
        )

    def _make_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:  # an SSLError is one
            raise BadInput(f"--ca-file: {self.ca_file} is no readable PEM file of CA certificates.") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.fingerprint and not self.ca_file:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _read_fingerprint(self) -> str:
        found = _FINGERPRINT.fullmatch(self.fingerprint.strip().lower().removeprefix("sha256:").replace(":", ""))
        if found is None:
            raise BadInput("--fingerprint: give sha256: and the 64 hex digits that the service prints at its start.")
        return found[0]


# What the options before the command say; without them the system's CAs.
TRUST: ContextVar[ServerTrust] = ContextVar("trust", default=ServerTrust())  # noqa: B039 - frozen


class _PinnedConnection(HTTPSConnection):
    """Ends before the first byte of a request if the server shows another certificate."""

    def __init__(self, *arguments: Any, pin: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pin = pin

    def connect(self) -> None:
        super().connect()
        seen = sha256(self.sock.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(seen, self._pin):
            self.close()
            raise ssl.SSLCertVerificationError(
                1, f"its certificate has the fingerprint sha256:{seen}, not the given one"
            )


class _PinnedHandler(HTTPSHandler):
    def __init__(self, context: ssl.SSLContext, *, pin: str) -> None:
        super().__init__(context=context)
        self._connection = partial(_PinnedConnection, pin=pin, context=context)

    def https_open(self, request: Request) -> HTTPResponse:
        return self.do_open(self._connection, request)
