"""The prober: a TLS handshake that shows which certificate is served."""

from collections.abc import Sequence
from typing import Protocol

from certorbit.model.balancer import Endpoint
from certorbit.model.served import Admission, Served

__all__ = ["Admission", "Prober", "Served"]


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

    async def try_without_certificate(
        self, endpoints: Sequence[Endpoint], server_names: Sequence[str], *, says_no_by_http: bool = False
    ) -> Sequence[Admission]:
        """Try to get past the handshake at every address, under each name, without a client certificate.

        Also by a session that was begun without a name: a proxy that resumes it under any name lets everybody past its
        check (CVE-2025-23419 is this in nginx). Never raises for what the other side does; where nobody answers,
        nobody got in.

        says_no_by_http: whom the listener doesn't let in may still shake hands: nginx tells him so by a page. It is
        asked for `/` then; where no such page comes, he is in.
        """
        ...
