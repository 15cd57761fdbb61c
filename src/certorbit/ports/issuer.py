"""An issuer: one account at one CA, or the built-in CA.

The workflow calls the methods in the order below and writes a checkpoint after each. A method may run again after a
crash, so each one first looks at what the CA already has. All errors are of `certorbit.errors`: `Unreachable`,
`IssuerRefused` and its kinds, `BadIssue`; their `retry` says whether the workflow tries again.
"""

from collections.abc import Sequence
from typing import Protocol

from certorbit.model.identifiers import Identifier
from certorbit.model.renewal import RenewalInfo


class Issuer(Protocol):
    @property
    def name(self) -> str:
        """The name in the settings, unique in a deployment."""
        ...

    @property
    def directory(self) -> str:
        """The CA's directory URL, or "internal"."""
        ...

    @property
    def can_issue_wildcards(self) -> bool:
        """Whether a solver for wildcards (DNS-01) is at hand for some zone, or none is needed."""
        ...

    def covers(self, identifier: Identifier) -> bool:
        """Return whether there is a solver for this identifier, `*.` and all, or none is needed. Asks nobody."""
        ...

    async def check_names(self, identifiers: Sequence[Identifier]) -> None:
        """Return unless it is certain, without asking the CA for anything that counts, that it would refuse.

        Called before an order is counted and placed. Takes a few seconds at most; what can't be found out is no
        reason to refuse.

        Raises:
            CAAForbids: the names' CAA records let other CAs issue, not this one.
        """
        ...

    async def find_orders(self, identifiers: Sequence[Identifier]) -> Sequence[str]:
        """Return the URLs of the account's pending or ready orders for exactly these identifiers.

        Called when an intent has no order URL after a crash. Empty when the CA has no list of orders.
        """
        ...

    async def place_order(self, identifiers: Sequence[Identifier], *, replaces: str | None = None) -> str:
        """Ask for a new order and return its URL. Sends newOrder once (a badNonce answer is not an order).

        The caller has counted it in the ledger before. replaces: the predecessor's ARI CertID (RFC 9773 §5); an
        issuer without ARI ignores it.
        """
        ...

    async def prove(self, order_url: str) -> None:
        """Return when every authorization of the order is valid; already valid ones are used as they are.

        Raises:
            ChallengeFailed: one or more became invalid; `subproblems` has the CA's sentence by identifier.
        """
        ...

    async def finalise(self, order_url: str, *, csr_der: bytes) -> None:
        """Return when the order is valid. Sends the request only if the order is still ready."""
        ...

    async def collect(self, order_url: str) -> str:
        """Return the chain as PEM as it came, leaf first, in the preferred variant. Repeatable."""
        ...

    async def revoke(self, chain_pem: str, *, reason: int) -> None:
        """Revoke the leaf. reason: RFC 5280 CRLReason number. Already revoked is success."""
        ...

    async def renewal_info(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:
        """Ask the CA when it would have the leaf renewed (ARI, RFC 9773) and return what to store in its place.

        The caller asks as `model.renewal.should_ask` says (never about an expired or replaced certificate) and hands
        over what it stored the last time, so that a window's random instant is kept.

        Never raises but for cancellation: a failure is in the answer's `problem`, with the time of the next check.
        None: there is nothing to ask, because this CA has no ARI or the certificate no CertID; store none.
        """
        ...

    async def close(self) -> None:
        """Release connections; the issuer is not used afterwards."""
        ...
