"""The steps of an issuance: order, prove, finalise, store, each a checkpoint (docs/issuance-cycle.md).

What is written down before each irreversible step:

1. place_order: the new key (sealed), the order's intent and its count in the ledger; then newOrder; then its URL.
2. prove: the HTTP-01 answers are in the shared store before the CA is told to look.
3. finalise: the key has been stored since step 1, so a certificate never exists without it.
4. store: the chain is checked against what was asked for, then version and end of operation are one transaction.
5. conclude (only on failure, issuance.py): the failed attempt and what follows from it are one transaction.

Every step may run again after a crash and looks first at what was done. A step returns its outcome as a value:
`{"outcome": "done", …}`, `{"outcome": "cancelled"}` or `{"outcome": "failed", "problem": {…}}`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from certorbit.clock import Clock
from certorbit.errors import AccountProblem, IssuerRefused, OrderLost, RateLimited, Unreachable, retry_at
from certorbit.model.ca_limits import CALimits
from certorbit.model.entry import Version, key_context
from certorbit.model.identifiers import Identifier, hash_identifiers, normalise_identifier
from certorbit.model.material import KeyType, PrivateKeyPEM
from certorbit.model.operation import Operation, OperationID, OperationKind, Problem, problem_to_json
from certorbit.model.order import OrderID, OrderIntent, order_key_context
from certorbit.pki.ari import make_cert_id
from certorbit.pki.chain import check_issue
from certorbit.pki.csr import make_csr
from certorbit.pki.private_key import make_key, public_key_sha256
from certorbit.ports.issuer import Issuer
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store
from certorbit.workflows import records
from certorbit.workflows.admission import admit_again, is_released, release

log = structlog.get_logger(__name__)

Outcome = dict[str, object]
DONE = "done"
CANCELLED = "cancelled"
FAILED = "failed"
BEFORE_FINALISE = frozenset({"place_order", "prove"})  # steps after whose failure no certificate can have been made


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One execution of one attempt. After a crash another execution goes on with what is in the store.

    _intent: the attempt's order as this execution wrote or read it; None until then. It spares the store a query
        per step; whether the operation still lives is asked again before a certificate is made, and as it is stored.
    """

    operation_id: OperationID
    number: int
    kind: OperationKind
    identifiers: Sequence[str]
    issuer: Issuer
    store: Store
    keyring: Keyring
    clock: Clock
    key_type: KeyType
    reuse_key: bool
    limits: CALimits | None = None
    new_id: Callable[[], str]
    _intent: OrderIntent | None = field(default=None, init=False)

    def in_order(self) -> Sequence[tuple[str, Callable[[], Awaitable[Outcome]]]]:
        """Return the steps: constant names, stored with every workflow, and their work."""
        return (
            ("place_order", self.place_order),
            ("prove", self.prove),
            ("finalise", self.finalise),
            ("store", self.store_version),
        )

    async def place_order(self) -> Outcome:
        """Ask the issuer about the names, write the intent, count it, ask for the order, store its URL."""
        # Before anything is written: a refusal here is no order, so no limit knows of it.
        await self.issuer.check_names(_identifiers(self.identifiers))
        predecessor = await self._find_predecessor()
        key = await self._make_key(predecessor)
        order_id = OrderID(self.new_id())
        sealed_key = self.keyring.seal(key.reveal().encode(), context=order_key_context(order_id))
        now = self.clock.now()

        def make_intent(operation: Operation) -> OrderIntent:
            return OrderIntent(
                id=order_id,
                operation=self.operation_id,
                attempt=self.number,
                issuer_name=self.issuer.name,
                account=self.issuer.directory,
                identifiers=operation.identifiers,
                identifiers_hash=hash_identifiers(operation.identifiers),
                sealed_key=sealed_key,
                url="",
                requests=0,
                created_at=now,
            )

        begun = await self.store.write(
            lambda tx: records.begin_order(
                tx, self.operation_id, self.number, make_intent=make_intent, limits=self.limits, now=now
            )
        )
        if begun is None:
            return {"outcome": CANCELLED}
        if isinstance(begun, Problem):
            return self._wait(begun)
        intent, is_new = begun
        self._check_issuer(intent)
        self._intent = intent
        if not intent.url:
            asked_for = await self._ask_for_order(intent, predecessor=predecessor, was_asked=not is_new)
            if isinstance(asked_for, Problem):
                return self._wait(asked_for)
            url = await self.store.write(lambda tx: tx.orders.set_url(intent.id, asked_for))
            self._intent = replace(intent, url=url)
            log.info("order.placed", issuer=self.issuer.name, order=intent.id, order_url=url)
            return {"outcome": DONE, "order_url": url}
        return {"outcome": DONE, "order_url": intent.url}

    async def _ask_for_order(
        self, intent: OrderIntent, *, predecessor: Version | None, was_asked: bool
    ) -> str | Problem:
        """Return the order's URL, or why it can't be asked for now: a CA counts every request."""
        identifiers = _identifiers(intent.identifiers)
        if was_asked:
            # We died between the intent and the URL: the CA may have the order already (CAs count orders).
            urls = await self.issuer.find_orders(identifiers)
            known = await self.store.read(lambda tx: tx.orders.known_urls(urls)) if urls else set()
            found = [url for url in urls if url not in known]
            if found:
                log.info("order.found_again", issuer=self.issuer.name, order=intent.id, order_url=found[0])
                return await self._hold_token(intent) or found[0]
        replaces = self._name_predecessor(predecessor)
        if was_asked and (wait := await self._count_again(intent, replaces=replaces)):
            return wait
        log.info("order.counted", issuer=self.issuer.name, order=intent.id, identifiers=len(identifiers))
        try:
            return await self._send(intent, identifiers, replaces=replaces)
        except IssuerRefused as refused:
            if replaces is None or isinstance(refused, RateLimited | AccountProblem):
                raise
            # `replaces` may be what the CA refuses: once more without it (RFC 9773 §5, facts.md 1.1).
            log.warning("order.replaces_refused", issuer=self.issuer.name, order=intent.id, message=refused.message)
        return await self._count_again(intent, replaces=None) or await self._send(intent, identifiers, replaces=None)

    async def _send(self, intent: OrderIntent, identifiers: Sequence[Identifier], *, replaces: str | None) -> str:
        try:
            return await self.issuer.place_order(identifiers, replaces=replaces)
        except Unreachable as error:
            if not error.was_sent:
                await self.store.write(
                    lambda tx: release(tx, intent, was_sent=False, limits=self.limits, now=self.clock.now())
                )
            raise

    async def _hold_token(self, intent: OrderIntent) -> Problem | None:
        """Count an order that was found again, if what it took of the limits was given back meanwhile."""
        if await self.store.read(lambda tx: is_released(tx, intent)):
            return await self._count_again(intent, replaces=None)
        return None

    async def _count_again(self, intent: OrderIntent, *, replaces: str | None) -> Problem | None:
        return await self.store.write(
            lambda tx: admit_again(
                tx, intent, limits=self.limits, now=self.clock.now(), names_predecessor=replaces is not None
            )
        )

    def _wait(self, problem: Problem) -> Outcome:
        """Return the outcome of an order that was not asked for: the attempt ends, the next one has its time."""
        log.info("order.waits", issuer=self.issuer.name, type=problem.type, until=str(problem.retry_at))
        return {"outcome": FAILED, "problem": problem_to_json(problem)}

    def _name_predecessor(self, predecessor: Version | None) -> str | None:
        """Return the ARI CertID of the version that the order replaces, if this issuer made it."""
        if predecessor is None or predecessor.issuer_name != self.issuer.name:
            return None
        return make_cert_id(predecessor.chain_pem)

    async def _find_predecessor(self) -> Version | None:
        if self.kind is OperationKind.ISSUE:
            return None
        return await self.store.read(lambda tx: records.find_current_version(tx, self.operation_id))

    def _check_issuer(self, intent: OrderIntent) -> None:
        """Raise OrderLost if the order is at a CA that is not this issuer's: the settings changed meanwhile."""
        if (intent.issuer_name, intent.account) != (self.issuer.name, self.issuer.directory):
            raise OrderLost(
                f"The order is at {intent.account}, which the issuer {self.issuer.name!r} is not any more; a new one"
                " is needed.",
                type="about:blank",
                detail="the settings name another CA",
                retry=retry_at(self.clock.now()),
            )

    async def prove(self) -> Outcome:
        """Show the CA that the names are ours."""
        intent = self._intent or await self._load_intent()
        if intent is None:
            return {"outcome": CANCELLED}
        log.info("order.proving", order=intent.id)
        await self.issuer.prove(intent.url)
        return {"outcome": DONE}

    async def finalise(self) -> Outcome:
        """Send the request for the stored key, unless the entry was deleted meanwhile."""
        intent = await self._load_intent()
        if intent is None:
            return {"outcome": CANCELLED}
        log.info("order.finalising", order=intent.id)
        csr_der = make_csr(self._open_key(intent), _identifiers(intent.identifiers))
        await self.issuer.finalise(intent.url, csr_der=csr_der)
        return {"outcome": DONE}

    async def store_version(self) -> Outcome:
        """Fetch the chain, check that it is what was asked for, make it the current version."""
        intent = self._intent or await self._load_intent()
        if intent is None:
            # A run before a crash may have stored it and lost only its checkpoint.
            done = await self.store.read(lambda tx: records.is_issued(tx, self.operation_id))
            return {"outcome": DONE if done else CANCELLED}
        log.info("order.collecting", order=intent.id)
        chain_pem = await self.issuer.collect(intent.url)
        now = self.clock.now()
        facts = await asyncio.to_thread(  # a signature for each certificate, by keys of the CA's choice
            check_issue,
            chain_pem,
            identifiers=intent.identifiers,
            public_key_sha256=public_key_sha256(self._open_key(intent)),
            now=now,
        )
        stored = await self.store.write(
            lambda tx: records.record_issued(
                tx,
                self.operation_id,
                intent,
                chain_pem=chain_pem,
                facts=facts,
                limits=self.limits,
                now=now,
                new_id=self.new_id,
            )
        )
        if not stored:
            return {"outcome": CANCELLED}
        log.info("certificate.issued", issuer=self.issuer.name, fingerprint=facts.fingerprint, version=intent.id)
        return {"outcome": DONE, "version": intent.id}

    async def _load_intent(self) -> OrderIntent | None:
        """Return the attempt's order from the store; None if the operation ended or another attempt took over."""
        self._intent = await self.store.read(lambda tx: records.find_live_intent(tx, self.operation_id, self.number))
        return self._intent

    async def _make_key(self, predecessor: Version | None) -> PrivateKeyPEM:
        """Return the key of the order: a new one, or the predecessor's if the settings say so and it is safe."""
        may_reuse = self.reuse_key and self.kind is not OperationKind.REKEY
        if may_reuse and predecessor is not None and predecessor.sealed_key is not None:
            context = key_context(predecessor.id)
            return PrivateKeyPEM(self.keyring.open(predecessor.sealed_key, context=context).decode())
        if self.key_type in {KeyType.ECDSA_P256, KeyType.ECDSA_P384}:
            return make_key(self.key_type)  # microseconds
        return await asyncio.to_thread(make_key, self.key_type)

    def _open_key(self, intent: OrderIntent) -> PrivateKeyPEM:
        return PrivateKeyPEM(self.keyring.open(intent.sealed_key, context=order_key_context(intent.id)).decode())


def _identifiers(values: Sequence[str]) -> tuple[Identifier, ...]:
    return tuple(normalise_identifier(value) for value in values)
