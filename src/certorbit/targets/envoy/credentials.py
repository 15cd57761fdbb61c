"""The SDS server's side of mutual TLS, from files that may change while it runs."""

from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from certorbit.errors import BadInput
from certorbit.target_settings import EnvoyTargetSettings

log = structlog.get_logger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]
_FORM: Final = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class _Files:
    """Certificate, key and client CAs as they are now. Asked by gRPC before each handshake, in a thread of its own."""

    def __init__(self, settings: EnvoyTargetSettings) -> None:
        self._target = settings.name
        self._paths = tuple(Path(path) for path in (settings.certificate, settings.key, settings.client_ca))
        self._stamp: _Stamp = ()

    def read(self) -> Any:
        """Return gRPC's form of the files. Raises OSError or ValueError if they can't be used."""
        stamp = self._look()
        chain, key, client_ca = (path.read_bytes() for path in self._paths)
        leaf = x509.load_pem_x509_certificates(chain)[0]
        if load_pem_private_key(key, None).public_key().public_bytes(*_FORM) != leaf.public_key().public_bytes(*_FORM):
            raise ValueError("the key is not the certificate's")
        x509.load_pem_x509_certificates(client_ca)
        self._stamp = stamp
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=client_ca)

    def read_if_changed(self) -> Any:
        """Return the files if they are others than before, else None; also None, and a log line, if they are bad."""
        try:
            if self._look() == self._stamp:
                return None
            changed = self.read()
        except (OSError, ValueError, TypeError) as error:
            # Certificate and key are two files: between two writes they don't fit, and the next handshake asks again.
            log.warning("envoy.credentials_unusable", target=self._target, error=type(error).__name__)
            return None
        log.info("envoy.credentials_reloaded", target=self._target)
        return changed

    def _look(self) -> _Stamp:
        seen = [path.stat() for path in self._paths]
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in seen)


def make_credentials(settings: EnvoyTargetSettings) -> Any:
    """Return gRPC server credentials that demand a client certificate of the CAs in the settings.

    Raises:
        BadInput: a file can't be read or used.
    """
    files = _Files(settings)
    try:
        first = files.read()
    except (OSError, ValueError, TypeError) as error:  # TypeError: the key is encrypted
        raise BadInput(
            f"targets: {settings.name!r}: certificate, key and client_ca of the SDS server can't be used"
            f" ({_reason(error)}); they are PEM files, the key unencrypted and the certificate's.",
            subject="targets",
        ) from error
    return grpc.dynamic_ssl_server_credentials(first, files.read_if_changed, require_client_authentication=True)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return "the key is not the certificate's" if str(error).startswith("the key is") else "not readable as PEM"
