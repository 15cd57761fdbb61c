"""HTTP-01 (RFC 8555 §8.3): the answers lie in the store, so that every node can give them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from certorbit.clock import Clock
from certorbit.model.order import Challenge
from certorbit.ports.solver import Proof
from certorbit.ports.store import Store

LIFETIME: Final = timedelta(days=1)  # ours: longer than any validation; housekeeping deletes what a crash left behind


class HTTP01Solver:
    """Writes the answers of `GET /.well-known/acme-challenge/{token}` into the store."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @property
    def challenge_type(self) -> str:
        return "http-01"

    async def present(self, proofs: Sequence[Proof]) -> None:
        """Store all answers in one transaction: when it is committed, every node has them."""
        expires_at = self._clock.now() + LIFETIME
        challenges = [Challenge(proof.token, proof.key_authorization, expires_at) for proof in proofs]
        await self._store.write(lambda tx: tx.challenges.put_all(challenges))

    async def clean_up(self, proofs: Sequence[Proof]) -> None:
        tokens = [proof.token for proof in proofs]
        await self._store.write(lambda tx: tx.challenges.delete_all(tokens))
