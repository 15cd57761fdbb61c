"""Issuance: order, prove, finalise, store, each a checkpoint (docs/issuance-cycle.md).

What is written down before each irreversible step:

1. place_order: the new key (sealed), the order's intent and its count in the ledger; then newOrder; then its URL.
2. prove: the HTTP-01 answers are in the shared store before the CA is told to look.
3. finalise: the key has been stored since step 1, so a certificate never exists without it.
4. store: the chain is checked against what was asked for, then version and end of operation are one transaction.
5. conclude (only on failure): the failed attempt and what follows from it are one transaction.

Every step may run again after a crash and looks first at what was done. A step returns its outcome as a value:
`{"outcome": "done", …}`, `{"outcome": "cancelled"}` or `{"outcome": "failed", "problem": {…}}`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside, Unreachable
from certorbit.model.backoff import Poll
from certorbit.model.identifiers import Identifier, hash_identifiers, normalise_identifier
from certorbit.model.material import KeyType, PrivateKeyPEM
from certorbit.model.operation import Operation, OperationID, problem_from
from certorbit.model.order import OrderID, OrderIntent, order_key_context
from certorbit.pki.chain import check_issue
from certorbit.pki.csr import make_csr
from certorbit.pki.private_key import make_key, public_key_sha256
from certorbit.ports.issuer import Issuer
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store
from certorbit.workflows import records
from certorbit.workflows.engine import Flow

log = structlog.get_logger(__name__)

Outcome = dict[str, object]
DONE = "done"
CANCELLED = "cancelled"
FAILED = "failed"
DATABASE_POLL = Poll(first=0.5, longest=15.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """The issuance workflow with the parts that it works with.

    issuers: in order of preference; the first one issues.
    wake: called when an operation's state changed, so that waiting requests look at once.
    """

    store: Store
    keyring: Keyring
    issuers: Sequence[Issuer]
    clock: Clock
    chance: Chance
    key_type: KeyType
    new_id: Callable[[], str]
    wake: Callable[[OperationID], None]

    async def run(self, flow: Flow, operation_id: OperationID, attempt: int) -> None:
        """Run one attempt to its end: a stored certificate, or a recorded failure with what follows from it."""
        issuer = self.issuers[0]
        with structlog.contextvars.bound_contextvars(operation=operation_id, attempt=attempt):
            steps: tuple[tuple[str, Callable[[], Awaitable[Outcome]]], ...] = (
                ("place_order", lambda: self.place_order(issuer, operation_id, attempt)),
                ("prove", lambda: self.prove(issuer, operation_id, attempt)),
                ("finalise", lambda: self.finalise(issuer, operation_id, attempt)),
                ("store", lambda: self.store_version(issuer, operation_id, attempt)),
            )
            for name, work in steps:
                outcome = await flow.step(name, partial(self._run_step, name, work))
                if outcome["outcome"] == FAILED:
                    conclude = partial(self.conclude, operation_id, attempt, outcome["problem"])
                    await flow.step("conclude", partial(self._run_step, "conclude", conclude))
                if outcome["outcome"] != DONE:
                    return

    async def _run_step(self, name: str, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do the work; what the outside world refuses becomes a value: nothing raises across a checkpoint.

        While our own database is away the step waits for it: it could not write down any other outcome.
        """
        for turn in count():
            try:
                return await work()
            except Unreachable as error:
                if error.phase != "database":
                    return _failed(name, error)
                log.warning("issuance.database_away", step=name, turn=turn)
                await self.clock.sleep(DATABASE_POLL.pause(turn, uniform=self.chance.between))
            except Outside as error:
                return _failed(name, error)
        raise AssertionError  # count() has no end

    async def place_order(self, issuer: Issuer, operation_id: OperationID, attempt: int) -> Outcome:
        """Write the intent, count it, ask for the order, store its URL."""
        key = await self._make_key()
        order_id = OrderID(self.new_id())
        sealed_key = self.keyring.seal(key.reveal().encode(), context=order_key_context(order_id))
        now = self.clock.now()

        def make_intent(operation: Operation) -> OrderIntent:
            return OrderIntent(
                id=order_id,
                operation=operation_id,
                attempt=attempt,
                issuer_name=issuer.name,
                account=issuer.directory,
                identifiers=operation.identifiers,
                identifiers_hash=hash_identifiers(operation.identifiers),
                sealed_key=sealed_key,
                url="",
                requests=0,
                created_at=now,
            )

        begun = await self.store.write(
            lambda tx: records.begin_order(tx, operation_id, attempt, make_intent=make_intent, now=now)
        )
        if begun is None:
            return {"outcome": CANCELLED}
        intent, is_new = begun
        self.wake(operation_id)
        if not intent.url:
            url = await self._ask_for_order(issuer, intent, was_asked=not is_new)
            await self.store.write(lambda tx: tx.orders.set_url(intent.id, url))
            log.info("order.placed", issuer=issuer.name, order=intent.id, order_url=url)
            return {"outcome": DONE, "order_url": url}
        return {"outcome": DONE, "order_url": intent.url}

    async def _ask_for_order(self, issuer: Issuer, intent: OrderIntent, *, was_asked: bool) -> str:
        identifiers = _identifiers(intent.identifiers)
        if was_asked:
            # We died between the intent and the URL: the CA may have the order already (CAs count orders).
            urls = await issuer.find_orders(identifiers)
            known = await self.store.read(lambda tx: tx.orders.known_urls(urls)) if urls else set()
            found = [url for url in urls if url not in known]
            if found:
                log.info("order.found_again", issuer=issuer.name, order=intent.id, order_url=found[0])
                return found[0]
            await self.store.write(lambda tx: tx.orders.count_request(intent.id, now=self.clock.now()))
        log.info("order.counted", issuer=issuer.name, order=intent.id, identifiers=len(identifiers))
        return await issuer.place_order(identifiers)

    async def prove(self, issuer: Issuer, operation_id: OperationID, attempt: int) -> Outcome:
        """Show the CA that the names are ours."""
        intent = await self._find_intent(operation_id, attempt)
        if intent is None:
            return {"outcome": CANCELLED}
        log.info("order.proving", order=intent.id)
        await issuer.prove(intent.url)
        return {"outcome": DONE}

    async def finalise(self, issuer: Issuer, operation_id: OperationID, attempt: int) -> Outcome:
        """Send the request for the stored key."""
        intent = await self._find_intent(operation_id, attempt)
        if intent is None:
            return {"outcome": CANCELLED}
        log.info("order.finalising", order=intent.id)
        csr_der = make_csr(self._open_key(intent), _identifiers(intent.identifiers))
        await issuer.finalise(intent.url, csr_der=csr_der)
        return {"outcome": DONE}

    async def store_version(self, issuer: Issuer, operation_id: OperationID, attempt: int) -> Outcome:
        """Fetch the chain, check that it is what was asked for, make it the current version."""
        intent = await self._find_intent(operation_id, attempt)
        if intent is None:
            # A run before a crash may have stored it and lost only its checkpoint.
            done = await self.store.read(lambda tx: records.is_issued(tx, operation_id))
            return {"outcome": DONE if done else CANCELLED}
        log.info("order.collecting", order=intent.id)
        chain_pem = await issuer.collect(intent.url)
        now = self.clock.now()
        facts = check_issue(
            chain_pem,
            identifiers=intent.identifiers,
            public_key_sha256=public_key_sha256(self._open_key(intent)),
            now=now,
        )
        stored = await self.store.write(
            lambda tx: records.record_issued(tx, operation_id, intent, chain_pem=chain_pem, facts=facts, now=now)
        )
        self.wake(operation_id)
        if not stored:
            return {"outcome": CANCELLED}
        log.info("certificate.issued", issuer=issuer.name, fingerprint=facts.fingerprint, version=intent.id)
        return {"outcome": DONE, "version": intent.id}

    async def conclude(self, operation_id: OperationID, attempt: int, problem: object) -> Outcome:
        """Record the failed attempt: the end of an unpromised request, else the next attempt."""
        failure = records.problem_from_json(problem)
        operation = await self.store.write(
            lambda tx: records.record_failure(
                tx, operation_id, attempt, failure, now=self.clock.now(), uniform=self.chance.between
            )
        )
        self.wake(operation_id)
        _log_failure(operation, failure.message)
        return {"outcome": DONE}

    async def record_broken(self, operation_id: OperationID, attempt: int, error_id: str) -> None:
        """Conclude an attempt that ended in a bug of ours; the log has the traceback under this id."""
        await self.conclude(operation_id, attempt, records.broken_problem(error_id))

    async def _find_intent(self, operation_id: OperationID, attempt: int) -> OrderIntent | None:
        return await self.store.read(lambda tx: records.find_live_intent(tx, operation_id, attempt))

    async def _make_key(self) -> PrivateKeyPEM:
        if self.key_type in {KeyType.ECDSA_P256, KeyType.ECDSA_P384}:
            return make_key(self.key_type)  # microseconds
        return await asyncio.to_thread(make_key, self.key_type)

    def _open_key(self, intent: OrderIntent) -> PrivateKeyPEM:
        return PrivateKeyPEM(self.keyring.open(intent.sealed_key, context=order_key_context(intent.id)).decode())


def _identifiers(values: Sequence[str]) -> tuple[Identifier, ...]:
    return tuple(normalise_identifier(value) for value in values)


def _failed(name: str, error: Outside) -> Outcome:
    log.warning("issuance.step_failed", step=name, error=type(error).__name__, message=error.message)
    return {"outcome": FAILED, "problem": records.problem_to_json(problem_from(error))}


def _log_failure(operation: Operation | None, message: str) -> None:
    if operation is None:
        return
    log.warning(
        "issuance.attempt_failed",
        state=operation.state,
        message=message,
        next_attempt_at=operation.next_attempt_at.isoformat() if operation.next_attempt_at else None,
    )
