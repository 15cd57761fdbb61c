"""The certificate that a client has shown in its TLS handshake, checked against the client CA."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Who the client is by its certificate. It gives no right: a request needs its API key all the same.

    subject: in certificate order, as `CN=edge-1, O=Example` reads; "" if there is none.
    san: DNS names and IP addresses in the certificate's order.
    fingerprint: lower-case hex SHA-256 of the DER.
    not_after: aware UTC.
    """

    subject: str
    san: tuple[str, ...]
    fingerprint: str
    not_after: datetime
