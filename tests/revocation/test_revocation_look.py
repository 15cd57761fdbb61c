"""The look at revocations: verdicts from real lists over real HTTP, events, and replacements."""

from dataclasses import replace
from datetime import timedelta

import pytest
import structlog
from cryptography import x509
from revocation_scene import SHOP, NamedIssuer, Scene

from certorbit.model.crl import HOLD, VerdictState
from certorbit.model.entry import Source
from certorbit.model.operation import OperationID, OperationKind, OperationState
from certorbit.pki.pem import write_certificates
from certorbit.ports.store import UnitOfWork
from certorbit.services.renewals import start_operation
from make import NOW, Chain, crl_scope, distribution_points, make_chain, make_crl, revoke

PATH = "/1.crl"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
COMPROMISE = x509.ReasonFlags.key_compromise
GENERATED = Source.GENERATED


def publish_revoked(scene: Scene, chain: Chain, reason: x509.ReasonFlags | None = COMPROMISE) -> None:
    """Publish a list that has the chain's leaf."""
    scene.publish(PATH, chain, revoked=[revoke(chain.leaf.serial_number, reason=reason)])


async def revoked_shop(scene: Scene, *, reason: x509.ReasonFlags | None = COMPROMISE, **entry: object) -> Chain:
    """Add a certificate that its CA has revoked."""
    chain = scene.chain(PATH)
    await scene.add(chain, **entry)  # type: ignore[arg-type]
    publish_revoked(scene, chain, reason)
    return chain


async def test_a_certificate_that_is_not_on_its_issuer_s_list_is_good(scene: Scene) -> None:
    chain = scene.chain(PATH)
    await scene.add(chain)
    scene.publish(PATH, chain, revoked=[5, 6])
    assert await scene.look() == 0
    verdict = await scene.verdict()
    assert verdict.state is VerdictState.GOOD
    assert verdict.checked_at == scene.clock.now()
    assert verdict.sources == (scene.web.url(PATH),)
    assert verdict.valid_until is not None
    assert verdict.problems == ()
    assert await scene.operations() == []


async def test_one_that_is_on_it_is_revoked_with_reason_and_date_and_is_an_event_once(scene: Scene) -> None:
    chain = await revoked_shop(scene)
    with structlog.testing.capture_logs() as logs:
        assert await scene.look() == 1
        assert await scene.look(after=6 * HOUR) == 0
    verdict = await scene.verdict()
    assert (verdict.state, verdict.reason) == (VerdictState.REVOKED, "keyCompromise")
    assert verdict.revoked_at == NOW - DAY
    (event,) = [line for line in logs if line["event"] == "certificate.revoked"]
    (operation,) = await scene.operations()
    assert (event["entry"], event["serial"]) == ("shop", format(chain.leaf.serial_number, "x"))
    assert (event["reason"], event["replacement"]) == ("keyCompromise", operation.id)


@pytest.mark.parametrize(
    ("source", "kind"), [(Source.UPLOADED, OperationKind.REPLACE), (GENERATED, OperationKind.REKEY)]
)
async def test_a_revoked_one_gets_a_replacement_with_a_new_key_at_once(
    scene: Scene, source: Source, kind: OperationKind
) -> None:
    await revoked_shop(scene, source=source)
    await scene.look()
    (operation,) = await scene.operations()
    assert (operation.kind, operation.state, operation.entry_uid) == (kind, OperationState.QUEUED, SHOP)
    assert [job.operation for job in scene.jobs] == [operation.id]
    await scene.look(after=6 * HOUR)
    assert len(await scene.operations()) == 1


async def test_no_replacement_starts_where_nothing_happens_by_itself_or_no_ca_is_configured(scene: Scene) -> None:
    await revoked_shop(scene, automatic=False)
    assert await scene.look() == 1
    assert await scene.operations() == []
    scene.issuers = [NamedIssuer("internal", directory="internal")]
    chain = scene.chain(PATH, name="blog")
    await scene.add(chain, name="blog")
    publish_revoked(scene, chain)
    await scene.look(after=6 * HOUR)
    assert await scene.operations() == []


async def test_a_hold_is_revoked_without_a_replacement_and_can_be_taken_back(scene: Scene) -> None:
    chain = await revoked_shop(scene, reason=x509.ReasonFlags.certificate_hold)
    await scene.look()
    assert ((await scene.verdict()).reason, await scene.operations()) == (HOLD, [])
    scene.publish(PATH, chain, number=8)
    await scene.look(after=6 * HOUR)
    assert (await scene.verdict()).state is VerdictState.GOOD


async def test_a_hold_without_a_valid_list_is_unknown_and_a_revocation_stands(scene: Scene) -> None:
    await revoked_shop(scene)
    held = scene.chain("/2.crl", name="held")
    await scene.add(held, name="held")
    hold = revoke(held.leaf.serial_number, reason=x509.ReasonFlags.certificate_hold)
    scene.publish("/2.crl", held, revoked=[hold])
    await scene.look()
    scene.web.answers.clear()
    await scene.look(after=8 * DAY)
    assert (await scene.verdict("held")).state is VerdictState.UNKNOWN
    assert (await scene.verdict()).state is VerdictState.REVOKED
    assert "published no newer one" in (await scene.verdict()).problems[0]


async def test_a_good_verdict_turns_unknown_with_the_end_of_its_list_even_if_nobody_looks(scene: Scene) -> None:
    chain = scene.chain(PATH)
    await scene.add(chain)
    scene.publish(PATH, chain, end=scene.clock.now() + HOUR)
    await scene.look()
    assert (await scene.verdict()).state is VerdictState.GOOD
    scene.clock.advance(hours=1)
    assert (await scene.verdict()).state is VerdictState.UNKNOWN
    scene.web.answers.clear()
    await scene.look()
    stale = await scene.verdict()
    assert stale.state is VerdictState.UNKNOWN
    assert "published no newer one" in stale.problems[0]


async def test_without_an_answer_or_with_a_forged_one_it_is_unknown_with_the_reason(scene: Scene) -> None:
    chain = scene.chain(PATH)
    await scene.add(chain)
    await scene.look()
    verdict = await scene.verdict()
    assert (verdict.state, verdict.problems) == (VerdictState.UNKNOWN, ("127.0.0.1: 127.0.0.1 answered 404.",))
    scene.web.say(PATH, make_crl(chain.issuers[0], chain.key, revoked=[chain.leaf.serial_number]))
    assert await scene.look(after=2 * timedelta(minutes=1)) == 0
    verdict = await scene.verdict()
    assert verdict.state is VerdictState.UNKNOWN
    assert "forged" in verdict.problems[0]


async def test_a_chain_without_its_issuer_or_without_a_list_is_unknown_and_not_looked_at_again(scene: Scene) -> None:
    chain = scene.chain(PATH)
    await scene.add(chain, chain_pem=chain.leaf_pem)
    await scene.add(scene.chain(name="bare"), name="bare")
    await scene.look()
    assert "issuer's certificate is not in the chain" in (await scene.verdict()).problems[0]
    assert "names no revocation list" in (await scene.verdict("bare")).problems[0]
    due = await scene.store.read(lambda tx: tx.revocations.list_due(now=scene.clock.now() + 400 * DAY, limit=10))
    assert due == []
    assert scene.web.requests == []


async def test_a_shard_for_other_certificates_says_nothing(scene: Scene) -> None:
    chain = scene.chain(PATH)
    await scene.add(chain)
    other = (crl_scope(scene.web.url("/2.crl"), user=True), True)
    scene.publish(PATH, chain, revoked=[chain.leaf.serial_number], extensions=[other])
    assert await scene.look() == 0
    assert "another distribution point" in (await scene.verdict()).problems[0]
    own = (crl_scope(scene.web.url(PATH), user=True), True)
    scene.publish(PATH, chain, revoked=[chain.leaf.serial_number], extensions=[own], number=8)
    assert await scene.look(after=6 * HOUR) == 1


async def test_any_url_of_a_point_is_enough(scene: Scene) -> None:
    urls = [scene.web.url("/gone.crl"), scene.web.url(PATH), scene.web.url("/never-asked.crl")]
    chain = make_chain(names=["shop.example.com"], extensions=[distribution_points(urls)])
    await scene.add(chain)
    scene.publish(PATH, chain)
    await scene.look()
    verdict = await scene.verdict()
    assert verdict.state is VerdictState.GOOD
    assert verdict.problems == ("127.0.0.1: 127.0.0.1 answered 404.",)
    assert len(scene.web.requests) == 2


async def test_every_point_is_asked_until_all_reasons_are_covered(scene: Scene) -> None:
    chain = scene.chain("/a.crl", "/b.crl")
    await scene.add(chain)
    some = frozenset({COMPROMISE, x509.ReasonFlags.superseded})
    others = frozenset(set(x509.ReasonFlags) - some - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl})
    scene.publish("/a.crl", chain, extensions=[(crl_scope(scene.web.url("/a.crl"), reasons=some), True)])
    await scene.look()
    assert (await scene.verdict()).state is VerdictState.UNKNOWN
    assert "all reasons" in (await scene.verdict()).problems[-1]
    scene.publish("/b.crl", chain, extensions=[(crl_scope(scene.web.url("/b.crl"), reasons=others), True)])
    await scene.look(after=2 * timedelta(minutes=1))
    assert (await scene.verdict()).state is VerdictState.GOOD
    revoked = [revoke(chain.leaf.serial_number, reason=x509.ReasonFlags.cessation_of_operation)]
    scope = (crl_scope(scene.web.url("/b.crl"), reasons=others), True)
    scene.publish("/b.crl", chain, revoked=revoked, extensions=[scope], number=8)
    assert await scene.look(after=6 * HOUR) == 1


async def test_hundreds_of_certificates_of_one_list_cost_one_download(scene: Scene) -> None:
    chains = [scene.chain(PATH, name=f"e{n}") for n in range(250)]
    for number, chain in enumerate(chains):
        await scene.add(chain, name=f"e{number}")
    scene.publish(PATH, chains[0], revoked=[chain.leaf.serial_number for chain in chains[::50]])
    assert await scene.look() == 5
    assert len(scene.web.requests) == 1
    assert (await scene.verdict("e1")).state is VerdictState.GOOD
    assert (await scene.verdict("e50")).state is VerdictState.REVOKED


async def test_an_expired_one_and_one_that_was_replaced_are_not_looked_at_any_more(scene: Scene) -> None:
    expired, replaced = scene.chain(PATH, days=-1), scene.chain(PATH, name="old")
    await scene.add(expired)
    before = await scene.add(replaced, name="old")
    after = await scene.renew(before, scene.chain(PATH, name="new"))
    scene.publish(PATH, replaced, revoked=[replaced.leaf.serial_number, expired.leaf.serial_number])
    assert await scene.look() == 0
    assert (await scene.verdict("old")).state is VerdictState.UNKNOWN
    assert (await scene.verdict(version=after.id)).state is VerdictState.GOOD


async def test_the_list_of_the_built_in_ca_is_not_fetched_from_ourselves(scene: Scene) -> None:
    chain = scene.chain("/crl/internal.crl")
    scene.own = OwnList(chain)
    scene.lists = scene.make_lists()
    await scene.add(chain, source=GENERATED)
    assert await scene.look() == 1
    assert (await scene.verdict()).sources == ("the built-in CA",)
    assert scene.web.requests == []


class OwnList:
    """The built-in CA as the look sees it: it has revoked the chain's leaf."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def issuing_pem(self) -> str:
        return write_certificates([self._chain.issuers[0]])

    async def crl_der(self) -> bytes:
        return make_crl(self._chain.issuers[0], self._chain.issuer_keys[0], revoked=[self._chain.leaf.serial_number])


async def test_a_ca_that_revokes_what_it_has_just_issued_is_not_asked_again_every_minute(scene: Scene) -> None:
    await revoked_shop(scene, source=GENERATED, age=timedelta(0))
    assert await scene.look() == 1
    assert await scene.operations() == []
    await scene.look(after=30 * timedelta(minutes=1))
    assert await scene.operations() == []
    await scene.look(after=30 * timedelta(minutes=1))
    assert [operation.kind for operation in await scene.operations()] == [OperationKind.REKEY]


async def test_a_renewal_that_may_keep_a_compromised_key_is_given_up_for_one_that_doesn_t(scene: Scene) -> None:
    await revoked_shop(scene, source=GENERATED)
    renewal = await start(scene, OperationKind.RENEW)
    await scene.look()
    states = {operation.id: (operation.kind, operation.state) for operation in await scene.operations()}
    assert states.pop(OperationID(renewal)) == (OperationKind.RENEW, OperationState.CANCELLED)
    assert list(states.values()) == [(OperationKind.REKEY, OperationState.QUEUED)]


async def test_a_replacement_that_waits_for_its_next_attempt_starts_it_at_the_news_and_only_then(scene: Scene) -> None:
    await revoked_shop(scene, source=GENERATED, reason=x509.ReasonFlags.superseded)
    renewal = await start(scene, OperationKind.RENEW, state=OperationState.WAITING)
    await scene.look()
    (operation,) = await scene.operations()
    assert (operation.id, operation.state, operation.attempt) == (renewal, OperationState.QUEUED, 2)
    await scene.look(after=6 * HOUR)
    assert [found.attempt for found in await scene.operations()] == [2]


async def start(scene: Scene, kind: OperationKind, *, state: OperationState = OperationState.QUEUED) -> str:
    """Start an operation for the entry and bring it into a state."""

    def work(tx: UnitOfWork) -> str:
        entry = tx.entries.get_by_uid(SHOP)
        assert entry is not None
        now = scene.clock.now()
        operation = start_operation(tx, entry, kind, issuer="", now=now, new_id=scene.new_id)
        tx.operations.update(replace(operation, state=state))
        return operation.id

    return await scene.store.write(work)


async def test_one_broken_chain_doesn_t_hold_up_the_others(scene: Scene) -> None:
    chain = scene.chain(PATH)
    await scene.add(chain, name="broken", chain_pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    await scene.add(chain)
    publish_revoked(scene, chain)
    assert await scene.look() == 1
    assert "not a readable X.509 certificate" in (await scene.verdict("broken")).problems[0]


@pytest.mark.parametrize("url", ["http://x/\x00", "http://user:secret@x/", "http://", "http://x/a b", "HTTP://[::1/"])
async def test_a_url_that_no_database_would_take_doesn_t_hold_up_the_others(scene: Scene, url: str) -> None:
    odd = make_chain(names=["odd.example.com"], extensions=[distribution_points([url])])
    await scene.add(odd, name="odd")
    chain = scene.chain(PATH)
    await scene.add(chain)
    publish_revoked(scene, chain)
    assert await scene.look() == 1
    verdict = await scene.verdict("odd")
    assert verdict.state is VerdictState.UNKNOWN
    assert "is not asked" in verdict.problems[0]
    assert "secret" not in str(verdict)


async def test_one_worker_looks_within_a_minute_and_what_it_found_is_counted(scene: Scene) -> None:
    await revoked_shop(scene)
    await scene.look()
    asked = len(scene.web.requests)
    assert await scene.look(after=timedelta(0)) == 0
    assert len(scene.web.requests) == asked
    assert 'certorbit_revocation_looks_total{verdict="revoked"} 1' in scene.metrics.render()


async def test_a_url_into_our_own_network_is_unknown_and_never_asked(scene: Scene) -> None:
    points = distribution_points(["http://169.254.169.254/latest/meta-data/", "http://10.0.0.1:80/x.crl"])
    await scene.add(make_chain(names=["shop.example.com"], extensions=[points]))
    await scene.look()
    verdict = await scene.verdict()
    assert verdict.state is VerdictState.UNKNOWN
    assert len(verdict.problems) == 2
