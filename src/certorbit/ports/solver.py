"""A solver: shows the CA that we control an identifier (RFC 8555 §8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from certorbit.model.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class Proof:
    """What must be shown for one authorization. token: base64url only (RFC 8555 §8.1), checked by the client."""

    identifier: Identifier
    token: str
    key_authorization: str


class Solver(Protocol):
    @property
    def challenge_type(self) -> str:
        """`http-01`, `dns-01`."""
        ...

    def covers(self, identifier: Identifier, *, is_wildcard: bool) -> bool:
        """Return whether this solver can prove control of the identifier; asks nobody.

        identifier: as in an authorization: of a wildcard, the name without `*.` (RFC 8555 §7.1.4).
        """
        ...

    async def present(self, proofs: Sequence[Proof]) -> None:
        """Return when all proofs can be seen by the CA. May run again with the same proofs.

        Raises:
            SolverFailed: they can't be shown, or not within the solver's limit. Some may be there: clean up.
        """
        ...

    async def clean_up(self, proofs: Sequence[Proof]) -> None:
        """Take the proofs away. Harmless for proofs that are gone; called after success and failure alike."""
        ...
