"""Stands in an attempt for an issuer that the settings don't have any more: every step fails with the reason.

An attempt that a restart left in the middle has steps on record already, so the rest of them have to be run in their
order, each to the same end: the operation is held back and keeps its order (docs/decisions/0013).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from certorbit.errors import NoIssuer
from certorbit.model.identifiers import Identifier
from certorbit.model.renewal import RenewalInfo


@dataclass(frozen=True, slots=True)
class AbsentIssuer:
    """name: the issuer that isn't there. reason: for people."""

    name: str
    reason: str

    @property
    def directory(self) -> str:
        return ""

    @property
    def can_issue_wildcards(self) -> bool:
        return False

    def covers(self, identifier: Identifier) -> bool:  # noqa: ARG002 - the port's
        return False

    async def check_names(self, identifiers: Sequence[Identifier]) -> None:  # noqa: ARG002 - the port's
        raise self._refusal()

    async def find_orders(self, identifiers: Sequence[Identifier]) -> Sequence[str]:  # noqa: ARG002 - the port's
        raise self._refusal()

    async def place_order(self, identifiers: Sequence[Identifier], *, replaces: str | None = None) -> str:  # noqa: ARG002 - the port's
        raise self._refusal()

    async def prove(self, order_url: str) -> None:  # noqa: ARG002 - the port's
        raise self._refusal()

    async def finalise(self, order_url: str, *, csr_der: bytes) -> None:  # noqa: ARG002 - the port's
        raise self._refusal()

    async def collect(self, order_url: str) -> str:  # noqa: ARG002 - the port's
        raise self._refusal()

    async def revoke(self, chain_pem: str, *, reason: int) -> None:  # noqa: ARG002 - the port's
        raise self._refusal()

    async def renewal_info(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:  # noqa: ARG002 - the port's
        return None

    async def close(self) -> None:
        """Do nothing: there is nothing to be released."""

    def _refusal(self) -> NoIssuer:
        return NoIssuer(self.reason, subject=self.name)
