"""HTTP-01: the answers in the store."""

from datetime import timedelta

from certorbit.model.identifiers import normalise_identifier
from certorbit.model.order import Challenge
from certorbit.ports.solver import Proof, Solver
from certorbit.solvers.http01 import HTTP01Solver
from fakes.clock import FakeClock
from fakes.memory_store import MemoryStore

PROOFS = [Proof(normalise_identifier(f"{name}.example"), f"token-{name}", f"token-{name}.print") for name in "ab"]


async def test_answers_are_in_the_store_until_they_are_taken_away(clock: FakeClock) -> None:
    store = MemoryStore()
    solver: Solver = HTTP01Solver(store=store, clock=clock)
    assert solver.challenge_type == "http-01"
    for _ in range(2):  # presenting again is harmless
        await solver.present(PROOFS)
    assert store.challenges["token-a"] == Challenge("token-a", "token-a.print", clock.now() + timedelta(days=1))
    assert set(store.challenges) == {"token-a", "token-b"}
    await solver.clean_up(PROOFS[:1])
    assert set(store.challenges) == {"token-b"}
    for _ in range(2):  # so is cleaning up what is gone
        await solver.clean_up(PROOFS)
    assert store.challenges == {}
