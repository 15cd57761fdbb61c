"""An execution that was taken over while it asked the CA: what it brings back must not disturb its successor."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, cast

import pytest

from certorbit.clock import SystemClock
from certorbit.model.entry import ConfigID, EntryID, EntryUID
from certorbit.model.material import KeyType
from certorbit.model.operation import Operation, OperationID, OperationKind, OperationState
from certorbit.ports.issuer import Issuer
from certorbit.storage import SQLStore
from certorbit.workflows.attempt import Attempt
from fakes.memory_keyring import MemoryKeyring

OPERATION = OperationID("taken-over")
NOW = datetime(2026, 11, 24, tzinfo=UTC)


class OrdersOnly:
    """An issuer that takes orders, and forgets to list them; `gate` holds its answers back."""

    name = "orders-only"
    directory = "https://ca.example.test/directory"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked: list[str] = []
        self.is_asked = asyncio.Event()

    async def check_names(self, identifiers: Sequence[object]) -> None:
        """Every name is fine."""

    async def find_orders(self, identifiers: Sequence[object]) -> list[str]:
        return []

    async def place_order(self, identifiers: Sequence[object], *, replaces: str | None = None) -> str:
        url = f"https://ca.example.test/order/{len(self.asked)}"
        self.asked.append(url)
        self.is_asked.set()
        if len(self.asked) == 1:
            await self.gate.wait()
        return url


@pytest.fixture
def make_attempt(store: SQLStore) -> Callable[[OrdersOnly], Attempt]:
    """Make executions of one attempt, as two workers have them."""
    numbers = count()
    keyring = MemoryKeyring()

    def make(issuer: OrdersOnly) -> Attempt:
        return Attempt(
            operation_id=OPERATION,
            number=1,
            kind=OperationKind.ISSUE,
            identifiers=("www.example.com",),
            issuer=cast("Issuer", cast("Any", issuer)),
            store=store,
            keyring=keyring,
            clock=SystemClock(),
            key_type=KeyType.ECDSA_P256,
            reuse_key=False,
            new_id=lambda: f"id-{next(numbers)}",
        )

    return make


async def test_the_order_that_goes_on_keeps_its_place(
    store: SQLStore, make_attempt: Callable[[OrdersOnly], Attempt]
) -> None:
    await store.write(
        lambda tx: tx.operations.add(
            Operation(
                id=OPERATION,
                kind=OperationKind.ISSUE,
                config=ConfigID("prod"),
                entry_id=EntryID("www"),
                entry_uid=EntryUID("uid"),
                identifiers=("www.example.com",),
                state=OperationState.QUEUED,
                attempt=1,
                promised=True,
                created_at=NOW,
                updated_at=NOW,
                finished_at=None,
                next_attempt_at=None,
                issuer_name="",
                problem=None,
            )
        )
    )
    issuer = OrdersOnly()
    sleeper = asyncio.create_task(make_attempt(issuer).place_order())
    await issuer.is_asked.wait()
    successor = await make_attempt(issuer).place_order()
    issuer.gate.set()
    late = await sleeper
    intent = await store.read(lambda tx: tx.orders.find(OPERATION, 1))
    assert intent is not None
    assert len(issuer.asked) == intent.requests == 2, "both requests are counted"
    assert successor == late == {"outcome": "done", "order_url": issuer.asked[1]}
    assert intent.url == issuer.asked[1]
