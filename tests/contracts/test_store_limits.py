"""`ports.store.Store` on SQLite and on PostgreSQL: the CAs' limits, names that fail, and who gets the last token."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from certorbit.limiting.failures import find_held_back, next_allowed, note_failures, note_success
from certorbit.limiting.orders import foresee, give_back, note_rate_limited, take
from certorbit.model.ca_limits import AccountKey, CALimits, OrderKind, OrderRequest
from certorbit.model.identifier_failure import IdentifierFailure, first_failure
from certorbit.model.limits import Allowed, Bucket, Rule, RuleName, Wait
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore, make_engine
from certorbit.storage.tables import limit_buckets, order_requests
from fakes.clock import FakeChance, FakeClock
from records import NOW, make_intent

CA = "https://ca.test/dir"
ACME = AccountKey(CA, "acme")
HOUR = timedelta(hours=1)
LIMITS = CALimits(
    "ca.test",
    {
        RuleName.ORDERS_PER_ACCOUNT: Rule(RuleName.ORDERS_PER_ACCOUNT, 5, HOUR),
        RuleName.CERTIFICATES_PER_DOMAIN: Rule(RuleName.CERTIFICATES_PER_DOMAIN, 3, HOUR),
        RuleName.CERTIFICATES_PER_SET: Rule(RuleName.CERTIFICATES_PER_SET, 2, HOUR),
        RuleName.FAILED_AUTHORIZATIONS: Rule(RuleName.FAILED_AUTHORIZATIONS, 2, HOUR),
        RuleName.CONSECUTIVE_FAILURES: Rule(RuleName.CONSECUTIVE_FAILURES, 4, 24 * HOUR),
    },
)
NO_JITTER = FakeChance(0.0).between


@pytest.fixture
async def other_store(database_url: str) -> AsyncIterator[SQLStore]:
    """Another process's store on the same database."""
    store = SQLStore(make_engine(database_url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    yield store
    await store.close()


def make_order(*names: str, kind: OrderKind = OrderKind.NEW, account: AccountKey = ACME) -> OrderRequest:
    return OrderRequest(account, names, kind)


def taking(
    order: OrderRequest, *, now: datetime = NOW, has_waited: bool = False
) -> Callable[[UnitOfWork], Allowed | Wait]:
    return lambda tx: take(tx, order, limits=LIMITS, now=now, has_waited=has_waited)


def failing(
    sentences: dict[str, str], *, now: datetime = NOW, account: AccountKey = ACME, since: datetime | None = None
) -> Callable[[UnitOfWork], datetime | None]:
    return lambda tx: note_failures(tx, account, sentences, since=since, limits=LIMITS, now=now, uniform=NO_JITTER)


async def buckets(store: SQLStore, subject: str, *, directory: str = CA) -> Sequence[Bucket]:
    return await store.read(lambda tx: tx.limits.find(directory, [subject]))


async def test_each_limit_holds_an_order_back_when_its_tokens_are_gone(store: SQLStore) -> None:
    for number in range(2):
        assert isinstance(await store.write(taking(make_order("a.one.test"))), Allowed), number
    verdict = await store.write(taking(make_order("a.one.test")))
    assert isinstance(verdict, Wait)
    assert (verdict.rule, verdict.until) == (RuleName.CERTIFICATES_PER_SET, NOW + HOUR)
    assert isinstance(await store.write(taking(make_order("b.one.test"))), Allowed)
    verdict = await store.write(taking(make_order("c.one.test")))
    assert isinstance(verdict, Wait)
    assert (verdict.rule, verdict.subject) == (RuleName.CERTIFICATES_PER_DOMAIN, "one.test")
    assert verdict.message.startswith("one.test: 3 certificates per 3 hours at ca.test; next at 2026-11-24 13:00:01")
    for name in ("two.test", "three.test"):
        assert isinstance(await store.write(taking(make_order(name))), Allowed)
    verdict = await store.write(taking(make_order("four.test")))
    assert isinstance(verdict, Wait)
    assert (verdict.rule, verdict.subject) == (RuleName.ORDERS_PER_ACCOUNT, "acme")


async def test_an_order_that_waits_took_nothing_and_stands_in_the_line(store: SQLStore) -> None:
    for number in range(3):
        await store.write(taking(make_order(f"{number}.one.test")))
    [account] = await buckets(store, "acme")
    [domain] = await buckets(store, "one.test")
    for place in (1, 2):
        verdict = await store.write(taking(make_order("x.one.test", "x.two.test")))
        assert isinstance(verdict, Wait)
        assert verdict.until == NOW + place * HOUR
    assert await buckets(store, "acme") == [account]
    assert await buckets(store, "two.test") == []
    assert await buckets(store, "one.test") == [replace(domain, line_ends_at=NOW + 2 * HOUR)]
    comes_back = taking(make_order("x.one.test", "x.two.test"), now=NOW + HOUR, has_waited=True)
    assert isinstance(await store.write(comes_back), Allowed)


@pytest.mark.parametrize("kind", [OrderKind.RENEWAL, OrderKind.ARI_RENEWAL])
async def test_renewals_go_on_when_account_and_domain_are_empty(store: SQLStore, kind: OrderKind) -> None:
    for number in range(5):
        await store.write(taking(make_order(f"{number}.one.test")))
    assert isinstance(await store.write(taking(make_order("0.one.test"))), Wait)
    assert isinstance(await store.write(taking(make_order("0.one.test", kind=kind))), Allowed)
    again = await store.write(taking(make_order("0.one.test", kind=kind)))
    assert isinstance(again, Wait if kind is OrderKind.RENEWAL else Allowed), "the set's limit is for renewals too"


async def test_accounts_and_cas_have_buckets_of_their_own(store: SQLStore) -> None:
    for number in range(3):
        await store.write(taking(make_order(f"{number}.one.test")))
    other_account = AccountKey(CA, "second")
    verdict = await store.write(taking(make_order("x.one.test", account=other_account)))
    assert isinstance(verdict, Wait), "the CA counts a domain over all accounts"
    assert isinstance(await store.write(taking(make_order("x.two.test", account=other_account))), Allowed)
    other_ca = AccountKey("https://other.test/dir", "acme")
    assert isinstance(await store.write(taking(make_order("x.one.test", account=other_ca))), Allowed)


async def test_without_limits_nothing_is_read_or_written(store: SQLStore) -> None:
    statements: list[str] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *event: statements.append(event[2]))

    def work(tx: UnitOfWork) -> list[object]:
        before = len(statements)
        order = make_order("a.one.test")
        verdicts = [take(tx, order, limits=None, now=NOW), foresee(tx, order, limits=None, now=NOW)]
        note_rate_limited(tx, order, detail="slow down", until=NOW + HOUR, limits=None, now=NOW)
        ari = take(tx, make_order("a.one.test", kind=OrderKind.ARI_RENEWAL), limits=LIMITS, now=NOW)
        return [*verdicts, ari, len(statements) - before]

    assert await store.write(work) == [Allowed(), Allowed(), Allowed(), 0]


async def test_a_decision_costs_one_query_and_two_writes_however_many_names(store: SQLStore) -> None:
    statements: list[str] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *event: statements.append(event[2].split()[0]))
    names = [f"www.name-{number}.test" for number in range(100)]
    counts = []
    for _ in range(2):
        before = len(statements)
        await store.write(taking(make_order(*names)))
        counts.append([word for word in statements[before:] if word in {"SELECT", "INSERT", "UPDATE"}])
    assert counts == [["SELECT", "INSERT"], ["SELECT", "UPDATE"]]


async def test_a_decision_looks_rows_up_by_the_key(sqlite_url: str) -> None:
    engine = make_engine(sqlite_url)
    with engine.connect() as connection:
        queries = {
            "buckets": "SELECT * FROM limit_buckets WHERE directory = 'a' AND subject IN ('b', 'c')"
            " ORDER BY subject, rule",
            "failures": "SELECT * FROM identifier_failures WHERE identifier IN ('b', 'c') AND directory = 'a'"
            " AND account = 'd' ORDER BY identifier, directory, account",
            "full": "DELETE FROM limit_buckets WHERE full_at <= 'x' AND line_ends_at <= 'x'",
        }
        plans = {
            name: " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}"))
            for name, query in queries.items()
        }
    engine.dispose()
    assert plans["buckets"].startswith("SEARCH limit_buckets USING INDEX sqlite_autoindex_limit_buckets_1 (directory=?")
    assert plans["failures"].startswith("SEARCH identifier_failures USING INDEX sqlite_autoindex_identifier_failures_1")
    assert plans["full"].startswith("SEARCH limit_buckets USING INDEX ix_limit_buckets_full_at")


async def test_a_look_ahead_says_the_same_and_changes_nothing(store: SQLStore) -> None:
    order = make_order("a.one.test")
    for expected in (Allowed, Allowed, Wait):
        ahead = await store.read(lambda tx: foresee(tx, order, limits=LIMITS, now=NOW))
        taken = await store.write(taking(order))
        assert isinstance(ahead, expected)
        assert ahead == taken


async def test_a_transaction_that_is_rolled_back_took_nothing(store: SQLStore) -> None:
    def work(tx: UnitOfWork) -> None:
        take(tx, make_order("a.one.test"), limits=LIMITS, now=NOW)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await store.write(work)
    assert await buckets(store, "acme") == []


@pytest.mark.parametrize("used_before", [0, 2], ids=["nobody used it", "it is in use"])
async def test_of_many_at_once_as_many_go_as_there_are_tokens(
    store: SQLStore, other_store: SQLStore, used_before: int
) -> None:
    for number in range(used_before):
        await store.write(taking(make_order(f"{number}.one.test")))
    takers = [
        chosen.write(taking(make_order(f"x{number}.one.test")))
        for number in range(8)
        for chosen in (store, other_store)
    ]
    verdicts = await asyncio.gather(*takers)
    assert sum(isinstance(verdict, Allowed) for verdict in verdicts) == 3 - used_before
    promised = sorted(verdict.until for verdict in verdicts if isinstance(verdict, Wait))
    assert promised == [NOW + place * HOUR for place in range(1, len(promised) + 1)]


@pytest.mark.parametrize("used_before", [0, 1], ids=["nobody used it", "it is in use"])
async def test_two_transactions_at_the_very_same_time_never_share_the_last_token(
    postgres_url: str, used_before: int
) -> None:
    """SQLite has one writer at a time; on PostgreSQL both transactions are open before either takes."""
    stores = [
        SQLStore(make_engine(postgres_url), clock=FakeClock(auto_advance=True), chance=FakeChance()) for _ in "ab"
    ]
    capacity = 1 + used_before
    limits = CALimits("ca.test", {RuleName.CERTIFICATES_PER_SET: Rule(RuleName.CERTIFICATES_PER_SET, capacity, HOUR)})
    order = make_order("a.one.test")
    for _ in range(used_before):
        await stores[0].write(lambda tx: take(tx, order, limits=limits, now=NOW))
    barrier = threading.Barrier(2)

    def make_taker() -> Callable[[UnitOfWork], Allowed | Wait]:
        runs: list[int] = []

        def work(tx: UnitOfWork) -> Allowed | Wait:
            runs.append(1)
            if not used_before:
                tx.limits.lock(CA, ["a.one.test"])  # there is no row to hold
            if len(runs) == 1:
                barrier.wait(timeout=20)
            return take(tx, order, limits=limits, now=NOW)

        return work

    verdicts = await asyncio.gather(*(store.write(make_taker()) for store in stores))
    for store in stores:
        await store.close()
    assert sorted(type(verdict).__name__ for verdict in verdicts) == ["Allowed", "Wait"]


async def test_orders_over_the_same_domains_in_any_order_do_not_block_each_other(
    store: SQLStore, other_store: SQLStore
) -> None:
    limits = CALimits("ca.test", {RuleName.CERTIFICATES_PER_DOMAIN: Rule(RuleName.CERTIFICATES_PER_DOMAIN, 99, HOUR)})
    names = [f"{letter}.test" for letter in "abcdefgh"]
    orders = [make_order(*names[turn:], *names[:turn]) for turn in range(8)]
    verdicts = await asyncio.gather(
        *(
            chosen.write(lambda tx, order=order: take(tx, order, limits=limits, now=NOW))
            for order in orders
            for chosen in (store, other_store)
        )
    )
    assert all(isinstance(verdict, Allowed) for verdict in verdicts)
    for name in names:
        [bucket] = await buckets(store, name)
        assert bucket.full_at == NOW + 16 * HOUR


async def test_a_cas_own_refusal_empties_the_bucket_that_it_names(store: SQLStore) -> None:
    sentence = 'too many certificates (3) already issued for "one.test" in the last 3h0m0s, retry after'

    def work(tx: UnitOfWork) -> None:
        note_rate_limited(tx, make_order("a.one.test"), detail=sentence, until=NOW + 2 * HOUR, limits=LIMITS, now=NOW)

    await store.write(work)
    verdict = await store.write(taking(make_order("b.one.test")))
    assert isinstance(verdict, Wait)
    assert (verdict.rule, verdict.until) == (RuleName.CERTIFICATES_PER_DOMAIN, NOW + 2 * HOUR)
    assert isinstance(await store.write(taking(make_order("b.two.test"))), Allowed)


async def test_full_buckets_are_swept_out_and_the_others_stay(store: SQLStore) -> None:
    for number in range(2):
        await store.write(taking(make_order(f"{number}.one.test")))
    await store.write(taking(make_order("a.two.test")))
    assert await store.write(lambda tx: tx.limits.delete_full(now=NOW + HOUR - timedelta(microseconds=1))) == 0
    assert await store.write(lambda tx: tx.limits.delete_full(now=NOW + HOUR)) == 4  # two.test and three sets
    assert [bucket.full_at for bucket in await buckets(store, "one.test")] == [NOW + 2 * HOUR]
    assert await store.write(lambda tx: tx.limits.delete_full(now=NOW + 3 * HOUR)) == 2
    with store.engine.connect() as connection:
        assert connection.scalars(sa.select(limit_buckets.c.subject)).all() == []


async def test_a_line_keeps_its_bucket(store: SQLStore) -> None:
    def work(tx: UnitOfWork) -> int:
        tx.limits.add(CA, [Bucket(RuleName.CERTIFICATES_PER_DOMAIN, "one.test", line_ends_at=NOW + HOUR)])
        return tx.limits.delete_full(now=NOW)

    assert await store.write(work) == 0


async def test_the_ledger_says_what_each_request_was(store: SQLStore) -> None:
    intent = make_intent()

    def work(tx: UnitOfWork) -> None:
        tx.orders.add(intent)
        tx.orders.count_request(intent.id, now=NOW)
        for kind in OrderKind:
            tx.orders.count_request(intent.id, now=NOW, kind=kind)

    await store.write(work)
    with store.engine.connect() as connection:
        kinds = connection.scalars(sa.select(order_requests.c.kind).order_by(order_requests.c.id)).all()
    assert kinds == ["new", "new", "renewal", "ari-renewal", "barren", "uncounted"]


async def test_failures_are_remembered_by_name_and_account(store: SQLStore) -> None:
    until = await store.write(failing({"a.one.test": "dns: NXDOMAIN\x00", "b.one.test": "tls: no"}))
    assert until == NOW + timedelta(minutes=1)
    found = await store.read(lambda tx: tx.failures.find(ACME, ["b.one.test", "a.one.test", "c.one.test"]))
    assert found == [
        first_failure(ACME, "a.one.test", "dns: NXDOMAIN\x00", now=NOW, uniform=NO_JITTER),
        first_failure(ACME, "b.one.test", "tls: no", now=NOW, uniform=NO_JITTER),
    ]
    assert await store.read(lambda tx: tx.failures.find(AccountKey(CA, "second"), ["a.one.test"])) == []
    later = NOW + timedelta(minutes=1)
    until = await store.write(failing({"a.one.test": "still"}, now=later))
    assert until == later + timedelta(minutes=10)
    [again] = await store.read(lambda tx: tx.failures.find(ACME, ["a.one.test"]))
    assert (again.failures, again.rung, again.sentence, again.first_failed_at) == (2, 2, "still", NOW)


async def test_names_that_failed_hold_every_order_with_them_back_until_their_time(store: SQLStore) -> None:
    await store.write(failing({"a.one.test": "no"}))
    minute = timedelta(minutes=1)

    async def allowed_at(now: datetime, *names: str) -> datetime | None:
        return await store.read(lambda tx: next_allowed(tx, ACME, names, now=now))

    assert await allowed_at(NOW, "a.one.test", "b.one.test") == NOW + minute
    assert await allowed_at(NOW, "b.one.test") is None
    assert await allowed_at(NOW + minute, "a.one.test") is None


async def test_a_certificate_that_ends_soon_is_held_back_less(store: SQLStore) -> None:
    for _ in range(4):
        await store.write(failing({"a.one.test": "no"}))

    async def next_at(not_after: datetime | None) -> datetime:
        held_back = await store.read(
            lambda tx: find_held_back(tx, ACME, ["a.one.test"], since=None, not_after=not_after, now=NOW)
        )
        return held_back[0].next_at

    assert await next_at(None) == await next_at(NOW + timedelta(days=60)) == NOW + timedelta(days=1)
    assert await next_at(NOW + timedelta(hours=6)) < NOW + timedelta(hours=2)


async def test_failed_authorizations_hold_new_orders_back_as_the_ca_does(store: SQLStore) -> None:
    order = make_order("a.one.test")
    await store.write(failing({"a.one.test": "no"}))
    assert isinstance(await store.write(taking(order)), Allowed), "one failure is left"
    await store.write(failing({"a.one.test": "no"}))
    verdict = await store.write(taking(order))
    assert isinstance(verdict, Wait)
    assert (verdict.rule, verdict.subject) == (RuleName.FAILED_AUTHORIZATIONS, "acme a.one.test")
    await store.write(lambda tx: tx.failures.forget(["a.one.test"]))
    assert isinstance(await store.write(taking(order)), Wait), "an operator's act resets the ladder, not the CA"
    assert isinstance(await store.write(taking(order, now=NOW + HOUR)), Allowed)


async def test_a_success_ends_the_row_of_failures_but_not_the_hours_count(store: SQLStore) -> None:
    for _ in range(4):
        await store.write(failing({"a.one.test": "no", "b.one.test": "no"}))
    after_hours = NOW + 4 * HOUR
    verdict = await store.write(taking(make_order("a.one.test"), now=after_hours))
    assert isinstance(verdict, Wait)
    assert verdict.rule is RuleName.CONSECUTIVE_FAILURES
    await store.write(lambda tx: note_success(tx, ACME, ["a.one.test"], limits=LIMITS))
    still = await store.write(taking(make_order("a.one.test")))
    assert isinstance(still, Wait)
    assert still.rule is RuleName.FAILED_AUTHORIZATIONS
    assert isinstance(await store.write(taking(make_order("a.one.test"), now=after_hours)), Allowed)
    assert [failure.identifier for failure in await store.read(lambda tx: tx.failures.list())] == ["b.one.test"]


async def test_two_failures_of_a_name_at_once_are_both_counted(store: SQLStore, other_store: SQLStore) -> None:
    await asyncio.gather(*(chosen.write(failing({"a.one.test": "no"})) for chosen in (store, other_store) * 4))
    [failure] = await store.read(lambda tx: tx.failures.find(ACME, ["a.one.test"]))
    assert failure.failures == 8


async def test_an_operators_act_forgets_a_name_at_every_account(store: SQLStore) -> None:
    for account in (ACME, AccountKey(CA, "second"), AccountKey("https://other.test/dir", "acme")):
        await store.write(failing({"a.one.test": "no", "b.one.test": "no"}, account=account))
    await store.write(lambda tx: tx.failures.forget(["a.one.test"]))
    left = await store.read(lambda tx: tx.failures.list())
    assert [failure.identifier for failure in left] == ["b.one.test"] * 3


async def test_failing_names_are_listed_page_by_page(store: SQLStore) -> None:
    second = AccountKey(CA, "second")
    for account in (second, ACME):
        await store.write(failing({f"{letter}.one.test": letter for letter in "cab"}, account=account))
    seen: list[IdentifierFailure] = []

    def read_page(tx: UnitOfWork) -> Sequence[IdentifierFailure]:
        return tx.failures.list(after=(seen[-1].identifier, seen[-1].account) if seen else None, limit=4)

    while page := await store.read(read_page):
        seen += page
    assert [(failure.identifier[0], failure.account.name) for failure in seen] == [
        (letter, account) for letter in "abc" for account in ("acme", "second")
    ]


async def test_names_that_nobody_tries_any_more_are_swept_out(store: SQLStore) -> None:
    await store.write(failing({"a.one.test": "no"}))
    due = NOW + timedelta(minutes=1)
    assert await store.write(lambda tx: tx.failures.delete_stale(before=due)) == 0
    assert await store.write(lambda tx: tx.failures.delete_stale(before=due + timedelta(microseconds=1))) == 1


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
async def test_hostile_text_is_simply_unknown(store: SQLStore, text: str) -> None:
    def work(tx: UnitOfWork) -> list[object]:
        account = AccountKey(text, "acme")
        return [
            tx.limits.find(CA, [text]),
            tx.limits.find(text, ["x"]),
            tx.failures.find(ACME, [text]),
            tx.failures.find(account, ["x"]),
            tx.failures.list(after=(text, ACME)),
        ]

    assert await store.read(work) == [[]] * 5


async def test_the_last_request_can_be_counted_anew(store: SQLStore) -> None:
    intent, other = make_intent(), make_intent()

    def work(tx: UnitOfWork) -> None:
        for one in (intent, other):
            tx.orders.add(one)
            tx.orders.count_request(one.id, now=NOW)
        tx.orders.count_request(intent.id, now=NOW + HOUR, kind=OrderKind.RENEWAL)

    await store.write(work)
    await store.write(lambda tx: tx.orders.recount(intent.id, OrderKind.UNCOUNTED))
    last = await store.read(lambda tx: tx.orders.last_request(intent.id))
    assert last == (OrderKind.UNCOUNTED, NOW + HOUR)
    with store.engine.connect() as connection:
        kinds = connection.scalars(sa.select(order_requests.c.kind).order_by(order_requests.c.id)).all()
    assert kinds == ["new", "new", "uncounted"]


async def test_an_order_that_was_never_asked_for_has_no_last_request(store: SQLStore) -> None:
    intent = make_intent()
    await store.write(lambda tx: tx.orders.add(intent))
    assert await store.read(lambda tx: tx.orders.last_request(intent.id)) is None
    await store.write(lambda tx: tx.orders.recount(intent.id, OrderKind.UNCOUNTED))


@pytest.mark.parametrize(
    ("kind", "remains", "kept"),
    [
        (OrderKind.NEW, OrderKind.BARREN, ["orders_per_account"]),
        (OrderKind.NEW, OrderKind.UNCOUNTED, []),
        (OrderKind.RENEWAL, OrderKind.UNCOUNTED, []),
        (OrderKind.BARREN, OrderKind.UNCOUNTED, []),
    ],
)
async def test_what_an_order_does_not_cost_is_given_back(
    store: SQLStore, kind: OrderKind, remains: OrderKind, kept: list[str]
) -> None:
    order = make_order("a.one.test", kind=kind)
    assert isinstance(await store.write(taking(order)), Allowed)
    await store.write(
        lambda tx: give_back(tx, order, remains=remains, limits=LIMITS, spent_at=NOW, now=NOW + timedelta(seconds=1))
    )
    with store.engine.connect() as connection:
        rows = connection.execute(sa.select(limit_buckets.c.rule, limit_buckets.c.full_at)).all()
    full_later = [row.rule for row in rows if row.full_at > NOW + timedelta(seconds=1)]
    assert full_later == kept
