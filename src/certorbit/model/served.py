"""What a handshake with a listener showed: the evidence that a certificate is served, or that it isn't."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one handshake showed.

    address: the IP address that was asked; the host's name if it could not be resolved.
    server_name: the SNI that was sent; "": none (an IP address is never sent, RFC 6066 §3).
    chain: lower-case hex SHA-256 of each certificate as sent, the leaf first.
    protocol: TLSv1.2 or TLSv1.3.
    milliseconds: from the first packet to the end of the handshake.
    error: why there was no handshake, in one sentence that starts with the phase (resolve, connect, TLS) and names
        neither address nor server name; "" if there was. Then `chain` is empty.
    """

    address: str
    port: int
    server_name: str
    chain: tuple[str, ...]
    protocol: str = ""
    milliseconds: float = 0.0
    error: str = ""

    @property
    def leaf(self) -> str:
        return self.chain[0] if self.chain else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What a try to get in without a client certificate showed. Fields not named here: as in `Served`.

    gets_in: the handshake is done, and the server did not refuse it afterwards.
    by_session: it is so by a session that was begun under no name; without one the server asks for a certificate.
    """

    address: str
    port: int
    server_name: str
    gets_in: bool
    by_session: bool = False
