"""The built-in CA as an issuer for the workflows (`ports.issuer.Issuer`).

An order is nothing but a reference: the names come with the request, which our own workflow makes, and what was
issued is kept under the reference, so every method may run again.
"""

import secrets
from collections.abc import Sequence

import structlog

from certorbit.errors import BadMaterial, IssuerRefused, OrderLost
from certorbit.internal_ca.authority import InternalAuthority
from certorbit.internal_ca.request import ACME_ERROR, read_request
from certorbit.model.identifiers import Identifier
from certorbit.model.renewal import RenewalInfo
from certorbit.pki.pem import read_certificates

log = structlog.get_logger(__name__)

DIRECTORY = "internal"
_SCHEME = "internal:"


class InternalIssuer:
    def __init__(self, name: str, *, authority: InternalAuthority) -> None:
        """Args: name: of the `[[issuers]]` table."""
        self._name = name
        self._authority = authority

    @property
    def name(self) -> str:
        return self._name

    @property
    def directory(self) -> str:
        return DIRECTORY

    @property
    def can_issue_wildcards(self) -> bool:
        return True  # nothing has to be proven to ourselves

    def covers(self, identifier: Identifier) -> bool:  # noqa: ARG002 - as above; the CA's own limits come with the order
        return True

    async def check_names(self, identifiers: Sequence[Identifier]) -> None:
        """Do nothing: CAA records are for CAs that the public trusts."""

    async def find_orders(self, identifiers: Sequence[Identifier]) -> Sequence[str]:  # noqa: ARG002 - the port's
        return ()  # an order without its reference is of no use, and a new one costs nothing

    async def place_order(self, identifiers: Sequence[Identifier], *, replaces: str | None = None) -> str:  # noqa: ARG002 - the port's
        """Return a new reference.

        Raises:
            IssuerRefused: rejectedIdentifier, when the CA may not issue for one of the names.
        """
        await self._authority.check_names(tuple(identifiers))
        return _SCHEME + secrets.token_urlsafe(16)

    async def prove(self, order_url: str) -> None:
        """Check nothing but the reference: whoever may ask us may have any name that `place_order` let pass."""
        _check(order_url)

    async def finalise(self, order_url: str, *, csr_der: bytes) -> None:
        _check(order_url)
        if await self._authority.find_issued(order_url) is None:
            await self._authority.issue(order_url, request=read_request(csr_der))
            log.info("authority.issued", issuer=self._name, order_url=order_url)

    async def collect(self, order_url: str) -> str:
        """Return the leaf and the issuing certificate; the root is fetched from the API.

        Raises:
            OrderLost: the order was never finalised.
        """
        _check(order_url)
        chain_pem = await self._authority.find_issued(order_url)
        if chain_pem is None:
            raise _lost("Nothing was issued for this order.", kind="orderNotReady")
        return chain_pem

    async def revoke(self, chain_pem: str, *, reason: int) -> None:
        try:
            leaf = read_certificates(chain_pem, subject="chain")[0]
        except BadMaterial as error:
            raise IssuerRefused(
                f"The built-in CA refused. {error.message}", type=ACME_ERROR + "malformed", detail=error.message
            ) from error
        await self._authority.revoke(leaf, reason=reason)
        log.info("authority.revoked", issuer=self._name, serial=format(leaf.serial_number, "x"), reason=reason)

    async def renewal_info(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:  # noqa: ARG002 - the port's
        return None  # it has no ARI: it never wants its certificates back before their time

    async def close(self) -> None:
        """Nothing is held."""


def _check(order_url: str) -> None:
    if not order_url.startswith(_SCHEME):
        raise _lost(f"{order_url[:80]!r} is not an order of the built-in CA.", kind="malformed")


def _lost(detail: str, *, kind: str) -> OrderLost:
    return OrderLost(f"The order can't go on: {detail}", type=ACME_ERROR + kind, detail=detail)
