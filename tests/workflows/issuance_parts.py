"""What the issuance workflow's tests share: a scripted issuer, an engine in memory, and a death at every step.

`Death` counts the places at which a process could die (before and after everything that has an effect: transactions,
requests to the CA, checkpoints) and dies at one of them, or at several. What happened before stays.
"""

import asyncio
import json
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from certorbit.model.ca_limits import NO_LIMITS, LimitPolicy
from certorbit.model.commands import Generate
from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, Side
from certorbit.model.identifiers import Identifier, normalise_identifiers
from certorbit.model.material import KeyType
from certorbit.model.operation import Operation, OperationID
from certorbit.model.renewal import RenewalInfo
from certorbit.ports.store import Job, UnitOfWork
from certorbit.services import certificates
from certorbit.storage import SQLStore, make_engine
from certorbit.storage.tables import order_intents, order_requests, versions
from certorbit.workflows.flow import Work
from certorbit.workflows.issuance import Issuance
from fakes.clock import FakeChance, FakeClock
from fakes.fake_chains import ChainMaker
from fakes.memory_keyring import MemoryKeyring

T = TypeVar("T")
PROD = ConfigID("prod")
SHOP = EntryID("shop")
MOST_DEATHS = 1000
CHAINS = ChainMaker("Scripted Root")


class Died(BaseException):
    """kill -9: nothing catches it, nothing is cleaned up."""


class Death:
    """Dies when the count of places reaches one of `at`."""

    def __init__(self, *at: int) -> None:
        self.places = 0
        self.deaths = 0
        self._at = set(at)

    def pass_by(self) -> None:
        self.places += 1
        if self.places in self._at:
            self.deaths += 1
            raise Died


class DirectFlow:
    """The engine as `Flow` describes it: finished steps are remembered, and only those."""

    def __init__(self, recorded: list[tuple[str, str]], death: Death) -> None:
        self._recorded = recorded
        self._death = death
        self._place = 0

    async def step(self, name: str, work: Work) -> dict[str, object]:
        self._place += 1
        if self._place > len(self._recorded):
            outcome = json.dumps(await work())
            self._death.pass_by()
            self._recorded.append((name, outcome))
            self._death.pass_by()
        recorded_name, outcome = self._recorded[self._place - 1]
        assert recorded_name == name, "the same steps in the same order"
        value: dict[str, object] = json.loads(outcome)
        return value

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("issuance doesn't sleep in a workflow")


@dataclass
class ScriptedOrder:
    identifiers: frozenset[str]
    status: str = "pending"
    chain_pem: str = ""


class ScriptedIssuer:
    """An issuer that keeps the port's promises and raises what it is told to.

    script: by method, what its next calls do: an exception to raise, or None to work as usual.
    faults, afterwards: by method, what every call of the first attempt raises, before or after the work was done (its
    answer was lost). They are still there when the attempt goes on after a death.
    has_order_list: without it `find_orders` knows nothing.
    """

    name = "scripted"
    directory = "https://ca.example/dir"
    can_issue_wildcards = False

    def covers(self, identifier: Identifier) -> bool:
        return not identifier.is_wildcard

    def __init__(self) -> None:
        self.orders: dict[str, ScriptedOrder] = {}
        self.calls: list[str] = []
        self.has_order_list = True
        self.chain_for: Callable[[bytes], bytes] = CHAINS.issue
        self.attempt = 1
        self.script: dict[str, deque[Exception | None]] = {}
        self.faults: dict[str, Exception] = {}
        self.afterwards: dict[str, Exception] = {}

    async def check_names(self, identifiers: Sequence[Identifier]) -> None:
        said = self.script["check_names"].popleft() if self.script.get("check_names") else None
        if said is not None:
            raise said

    async def find_orders(self, identifiers: Sequence[Identifier]) -> Sequence[str]:
        self._begin("find_orders")
        wanted = frozenset(i.value for i in identifiers)
        if not self.has_order_list:
            return []
        return [
            url
            for url, order in self.orders.items()
            if order.identifiers == wanted and order.status in {"pending", "ready"}
        ]

    async def place_order(self, identifiers: Sequence[Identifier], *, replaces: str | None = None) -> str:
        self._begin("place_order")
        url = f"https://ca.example/order/{len(self.orders) + 1}"
        self.orders[url] = ScriptedOrder(frozenset(i.value for i in identifiers))
        self._end("place_order")
        return url

    async def prove(self, order_url: str) -> None:
        self._begin("prove")
        if self.orders[order_url].status == "pending":
            self.orders[order_url].status = "ready"
        self._end("prove")

    async def finalise(self, order_url: str, *, csr_der: bytes) -> None:
        self._begin("finalise")
        order = self.orders[order_url]
        if order.status == "ready":
            order.chain_pem = self.chain_for(csr_der).decode()
            order.status = "valid"
        assert order.status == "valid"
        self._end("finalise")

    async def collect(self, order_url: str) -> str:
        self._begin("collect")
        assert self.orders[order_url].status == "valid"
        return self.orders[order_url].chain_pem

    async def revoke(self, chain_pem: str, *, reason: int) -> None:
        raise AssertionError("issuance revokes nothing")

    async def renewal_info(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:
        return None

    async def close(self) -> None:
        return

    def count(self, method: str) -> int:
        return self.calls.count(method)

    def _begin(self, method: str) -> None:
        self.calls.append(method)
        said = self.script[method].popleft() if self.script.get(method) else None
        if said is not None:
            raise said
        self._fail(self.faults, method)

    def _end(self, method: str) -> None:
        self._fail(self.afterwards, method)

    def _fail(self, faults: dict[str, Exception], method: str) -> None:
        if self.attempt == 1 and method in faults:
            raise faults[method]


class MortalIssuer(ScriptedIssuer):
    """Dies before or after a request."""

    def __init__(self, death: Death) -> None:
        super().__init__()
        self.death = death

    def _begin(self, method: str) -> None:
        self.death.pass_by()
        super()._begin(method)

    async def place_order(self, identifiers: Sequence[Identifier], *, replaces: str | None = None) -> str:
        url = await super().place_order(identifiers, replaces=replaces)
        self.death.pass_by()
        return url

    async def prove(self, order_url: str) -> None:
        await super().prove(order_url)
        self.death.pass_by()

    async def finalise(self, order_url: str, *, csr_der: bytes) -> None:
        await super().finalise(order_url, csr_der=csr_der)
        self.death.pass_by()


class MortalStore:
    """Dies before or after a transaction.

    away: what the next transactions raise instead of running. lost_answers: the same, after the commit.
    """

    def __init__(self, store: SQLStore, death: Death) -> None:
        self.store = store
        self.death = death
        self.away: deque[Exception | None] = deque()
        self.lost_answers: deque[Exception | None] = deque()

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        self.death.pass_by()
        self._say(self.away)
        return await self.store.read(work)

    async def write(self, work: Callable[[UnitOfWork], T]) -> T:
        self.death.pass_by()
        self._say(self.away)
        result = await self.store.write(work)
        self._say(self.lost_answers)
        self.death.pass_by()
        return result

    @staticmethod
    def _say(script: deque[Exception | None]) -> None:
        said = script.popleft() if script else None
        if said is not None:
            raise said


@dataclass
class Lab:
    """One entry `shop` that is to be issued, and everything around it. `drive` is the engine."""

    store: SQLStore
    mortal_store: MortalStore
    issuer: MortalIssuer
    keyring: MemoryKeyring
    clock: FakeClock
    death: Death
    operation_id: OperationID
    jobs: dict[str, Job]
    recorded: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    woken: list[OperationID] = field(default_factory=list)
    limits: LimitPolicy = NO_LIMITS

    def __post_init__(self) -> None:
        numbers = count(1)
        self.new_id = lambda: f"order-{next(numbers)}"

    def issuance(self) -> Issuance:
        """Return the workflow as a process has it that just started."""
        return Issuance(
            store=self.mortal_store,
            keyring=self.keyring,
            issuers=[self.issuer],
            clock=self.clock,
            chance=FakeChance(0.0),
            key_type=KeyType.ECDSA_P256,
            reuse_key=False,
            limits=self.limits,
            new_id=self.new_id,
            wake=self.woken.append,
            slots=asyncio.Semaphore(1),
        )

    async def run_attempt(self, attempt: int) -> None:
        """Run one attempt's workflow; a process that dies is followed by another one that goes on."""
        recorded = self.recorded.setdefault(f"{self.operation_id}.{attempt}", [])
        self.issuer.attempt = attempt
        for _ in range(MOST_DEATHS):
            try:
                await self.issuance().run(DirectFlow(recorded, self.death), self.operation_id, attempt)
            except Died:
                continue
            return
        raise AssertionError("it never comes to an end")

    async def drive(self, *, attempts: int = 5) -> Operation:
        """Run what is enqueued, each at its time, until nothing is left or so many attempts were made."""
        for attempt in range(1, attempts + 1):
            job = self.jobs.get(f"{self.operation_id}.{attempt}")
            if job is None:
                break
            self.clock.advance(job.delay_seconds)
            await self.run_attempt(attempt)
        return await self.operation()

    async def operation(self) -> Operation:
        found = await self.store.read(lambda tx: tx.operations.find(self.operation_id))
        assert found is not None
        return found

    async def entry(self) -> Entry | None:
        return await self.store.read(lambda tx: tx.entries.find(PROD, SHOP))

    def steps(self, attempt: int = 1) -> list[tuple[str, str]]:
        """Return name and outcome of the attempt's recorded steps."""
        recorded = self.recorded.get(f"{self.operation_id}.{attempt}", [])
        return [(name, json.loads(outcome)["outcome"]) for name, outcome in recorded]

    def count_rows(self) -> dict[str, int]:
        """Return the rows: versions, orders, counted requests, and orders that still hold a key."""
        with self.store.engine.connect() as connection:

            def number(query: "sa.Select[int]") -> int:
                return connection.scalars(query).one()

            total = sa.func.count()
            return {
                "versions": number(sa.select(total).select_from(versions)),
                "orders": number(sa.select(total).select_from(order_intents)),
                "requests": number(sa.select(total).select_from(order_requests)),
                "keys": number(sa.select(total).select_from(order_intents).where(order_intents.c.sealed_key != b"")),
            }


async def make_lab(path: Path, *, template: Path, death: Death | None = None, names: Sequence[str]) -> Lab:
    """Return a lab on a SQLite database of its own at `path`, its operation accepted and enqueued."""
    shutil.copy(template, path)
    clock = FakeClock(auto_advance=True)
    jobs: dict[str, Job] = {}
    store = SQLStore(make_engine(f"sqlite:///{path}"), clock=clock, chance=FakeChance())

    def enqueue(_: sa.Connection, job: Job) -> None:
        jobs.setdefault(job.workflow_id, job)  # again is harmless, as it is for the engine

    store.connect_enqueue(enqueue)
    command = Generate(
        config=PROD,
        id=SHOP,
        side=Side.SERVER,
        identifiers=normalise_identifiers(names),
        le_auto_renew=True,
        le_auto_replace=True,
    )
    ids = iter(("entry-1", "operation-1"))
    now = clock.now()
    await store.write(lambda tx: tx.configurations.add(Configuration(PROD, "", 1, now)))
    accepted = await store.write(
        lambda tx: certificates.generate(
            tx, command, by="tester", now=now, new_id=lambda: next(ids), covers=lambda _: True
        )
    )
    assert accepted.operation is not None
    death = death or Death()
    return Lab(
        store=store,
        mortal_store=MortalStore(store, death),
        issuer=MortalIssuer(death),
        keyring=MemoryKeyring(),
        clock=clock,
        death=death,
        operation_id=accepted.operation,
        jobs=jobs,
    )
