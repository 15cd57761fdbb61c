"""HTTP-01 (RFC 8555 §8.3): the answers lie in the store, so that every node can give them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from certorbit.clock import Clock
from certorbit.model.identifiers import Identifier
from certorbit.model.order import Challenge
from certorbit.ports.solver import Proof
from certorbit.ports.store import Store
from certorbit.solvers.zones import is_in_zone

LIFETIME: Final = timedelta(days=1)  # ours: longer than any validation; housekeeping deletes what a crash left behind


class HTTP01Solver:
    """Writes the answers of `GET /.well-known/acme-challenge/{token}` into the store.

    zone: names in and under it are covered; "" covers all.
    """

    def __init__(self, *, store: Store, clock: Clock, zone: str = "") -> None:
        self._store = store
        self._clock = clock
        self._zone = zone

    @property
    def challenge_type(self) -> str:
        return "http-01"

    def covers(self, identifier: Identifier, *, is_wildcard: bool) -> bool:
        """Return whether the name is in our zone; HTTP-01 proves no wildcards (CA/B Forum BR 3.2.2.4.19)."""
        return not is_wildcard and is_in_zone(identifier.value, zone=self._zone)

    async def present(self, proofs: Sequence[Proof]) -> None:
        """Store all answers in one transaction: when it is committed, every node has them."""
        expires_at = self._clock.now() + LIFETIME
        challenges = [Challenge(proof.token, proof.key_authorization, expires_at) for proof in proofs]
        await self._store.write(lambda tx: tx.challenges.put_all(challenges))

    async def clean_up(self, proofs: Sequence[Proof]) -> None:
        tokens = [proof.token for proof in proofs]
        await self._store.write(lambda tx: tx.challenges.delete_all(tokens))
