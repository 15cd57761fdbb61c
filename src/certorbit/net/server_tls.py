"""TLS as the service itself speaks it, by Mozilla's intermediate profile."""

import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certorbit.errors import BadMaterial
from certorbit.model.material import PrivateKeyPEM

# Mozilla's server side TLS guidelines 6.0, `intermediate` (https://ssl-config.mozilla.org/guidelines/6.0.json); for
# TLS 1.3 OpenSSL's own three are the profile's. Its curves are left to OpenSSL, too: Python could name a single one
# (before 3.15), and OpenSSL's defaults are the profile's (X25519MLKEM768 from 3.5 on) with other strong ones behind.
CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrust:
    """How clients' certificates are checked.

    ca_pem: CA certificates that a client's must lead to, intermediates allowed as ends, and CRLs; "": nobody's is good.
    has_crls: a client whose issuer has no current CRL in there is refused, too: stale is unknown, never good.
    has_whole_paths: so is one below a CA of which that is true. All CAs lead to roots in there, the only ends then.
    is_required: no handshake without a certificate.

    Without whole paths nothing is known here of a CA's own revocation: revoked ones must not be in there.
    """

    ca_pem: str
    has_crls: bool
    is_required: bool
    has_whole_paths: bool = False


def make_server_context(chain_pem: str, key: PrivateKeyPEM, *, clients: ClientTrust | None) -> ssl.SSLContext:
    """Return a context to serve with; a new one for every change, so that nothing of an old one can be resumed.

    Args:
        chain_pem: leaf first.
        clients: None: no client is asked for a certificate.

    Raises:
        BadMaterial: OpenSSL takes the chain, the key or the client CA not, or they don't fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(CIPHERS))
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # the profile: all are strong, so the client chooses
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # No tickets: whoever got their key could read what was recorded, and a resumed client shows no certificate.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _as_path(key.reveal() + chain_pem) as path:
            # The password is for a key that is encrypted against expectation: OpenSSL would ask at the terminal.
            context.load_cert_chain(path, password="")
        if clients is not None:
            _check_clients(context, clients)
    except ssl.SSLError as error:
        reason = (error.reason or "unreadable").replace("_", " ").lower()
        raise BadMaterial(
            f"The service can't serve with this certificate, key or client CA: {reason}.", subject="tls"
        ) from error
    return context


def _check_clients(context: ssl.SSLContext, clients: ClientTrust) -> None:
    context.verify_mode = ssl.CERT_REQUIRED if clients.is_required else ssl.CERT_OPTIONAL
    if clients.has_whole_paths:
        # OpenSSL looks for the list of the path's end, too, and only a root's can be checked there.
        context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    else:
        # A bundle may hold an issuing CA without its root; what the operator put there is trusted.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if clients.has_crls:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if clients.ca_pem:
        with _as_path(clients.ca_pem) as path:  # as text (`cadata`) Python takes certificates, but no CRLs
            context.load_verify_locations(path)


@contextmanager
def _as_path(pem: str) -> Iterator[str]:
    """Give a path under which OpenSSL reads the text: Python's ssl loads keys from files alone.

    On Linux it is memory with a name in /proc: a key never is on a disk, whatever crashes. Elsewhere it is a file that
    only we can read, for as long as OpenSSL reads it.
    """
    if sys.platform == "linux":
        descriptor = os.memfd_create("certorbit-tls", os.MFD_CLOEXEC)
        with open(descriptor, "wb", closefd=True) as file:  # noqa: PTH123 - a descriptor has no Path
            file.write(pem.encode())
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.TemporaryDirectory(prefix="certorbit-tls-") as directory:  # 0700
            path = Path(directory, "pem")
            path.touch(mode=0o600)
            path.write_text(pem)
            yield str(path)
