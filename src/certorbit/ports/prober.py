"""The prober: a TLS handshake that shows which certificate is served."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from certorbit.model.balancer import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one handshake showed.

    address: the IP address that was asked. server_name: the SNI that was sent; "": none.
    chain: lower-case hex SHA-256 of each certificate as sent, the leaf first.
    error: why there was no handshake, in one sentence; "" if there was. Then `chain` is empty.
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


class Prober(Protocol):
    async def probe(
        self, endpoints: Sequence[Endpoint], server_names: Sequence[str], *, key_algorithm: str
    ) -> Sequence[Served]:
        """Shake hands with every address of every endpoint, with each name as SNI ("": without SNI).

        Never raises for what the other side does: that is `Served.error`. A host name that can't be resolved is one
        `Served` with an error per endpoint. The order is that of endpoints, addresses, names.

        key_algorithm: as in `CertificateFacts`; where a listener has certificates with several kinds of keys for the
        same name, the handshake asks for this kind. Nothing served is trusted or verified: it is compared.
        """
        ...
