"""Orders from newOrder to the chain, and what happens when a step is repeated or its answer lost."""

import asyncio
from collections.abc import Callable

import pytest
from cryptography import x509

from certorbit.acme.issuer import ACMEIssuer
from certorbit.errors import (
    AlreadyReplaced,
    BadMaterial,
    ChallengeFailed,
    IssuerRefused,
    OrderLost,
    RateLimited,
    RetryRule,
    Unreachable,
)
from certorbit.model.identifiers import normalise_identifiers
from fakes.clock import FakeClock
from fakes.fake_ca import HANG_UP, HANG_UP_AFTERWARDS, FakeCA, Say, problem
from fakes.fake_chains import make_csr
from fakes.memory_store import MemoryStore

MakeIssuer = Callable[..., ACMEIssuer]
NAMES = normalise_identifiers(["a.example", "b.example"])
CSR = make_csr("a.example", "b.example")


async def issue(issuer: ACMEIssuer) -> str:
    url = await issuer.place_order(NAMES)
    await issuer.prove(url)
    await issuer.finalise(url, csr_der=CSR)
    return await issuer.collect(url)


async def test_an_order_asks_nothing_twice(ca: FakeCA, issuer: ACMEIssuer, store: MemoryStore) -> None:
    chain_pem = await issue(issuer)
    assert len(x509.load_pem_x509_certificates(chain_pem.encode())) == 2
    assert store.challenges == {}
    once_each = {"directory": 1, "new-account": 1, "new-order": 1, "finalize": 1, "cert": 1, "order": 0}
    assert {door: ca.count(door) for door in once_each} == once_each
    assert ca.count("authz") == 4, "each authorization is read once and polled once"
    assert ca.count("challenge") == 2


async def test_every_step_goes_on_in_another_process(ca: FakeCA, make_issuer: MakeIssuer) -> None:
    ca.polls_before_decision = 2
    url = await make_issuer(ca.directory_url).place_order(NAMES)
    for _ in range(2):
        await make_issuer(ca.directory_url).prove(url)
    for _ in range(2):
        await make_issuer(ca.directory_url).finalise(url, csr_der=CSR)
    chains = [await make_issuer(ca.directory_url).collect(url) for _ in range(2)]
    assert chains[0] == chains[1]
    assert (ca.count("new-order"), ca.count("finalize"), ca.count("challenge")) == (1, 1, 2)


async def test_polls_follow_the_wish_of_the_ca(ca: FakeCA, issuer: ACMEIssuer, clock: FakeClock) -> None:
    ca.polls_before_decision = 3
    url = await issuer.place_order(NAMES[:1])
    await issuer.prove(url)
    own_pace = clock.slept.copy()
    clock.slept.clear()
    await issuer.finalise(url, csr_der=make_csr("a.example"))
    assert own_pace == pytest.approx([0.05, 0.08, 0.128, 0.2048])
    assert clock.slept == [2.0, 2.0, 2.0]


async def test_waiting_for_a_decision_ends(ca: FakeCA, make_issuer: MakeIssuer, clock: FakeClock) -> None:
    issuer = make_issuer(ca.directory_url, limit_seconds=30.0)
    url = await issuer.place_order(NAMES[:1])
    ca.polls_before_decision = 10**6
    before = clock.now()
    with pytest.raises(Unreachable, match=r"did not decide on a\.example within 30 seconds"):
        await issuer.prove(url)
    assert (clock.now() - before).total_seconds() == pytest.approx(30.0)
    ca.polls_before_decision = 0
    await issuer.prove(url)
    ca.polls_before_decision = 10**6
    with pytest.raises(Unreachable, match="left the order processing for 30 seconds"):
        await issuer.finalise(url, csr_der=make_csr("a.example"))


async def test_failures_are_told_for_every_identifier(ca: FakeCA, issuer: ACMEIssuer, store: MemoryStore) -> None:
    words = {"a.example": "no such host", "b.example": "connection refused"}
    types = {"a.example": "dns", "b.example": "connection"}
    ca.judge = lambda name: {"type": f"urn:ietf:params:acme:error:{types[name]}", "detail": words[name]}
    url = await issuer.place_order(NAMES)
    with pytest.raises(ChallengeFailed) as caught:
        await issuer.prove(url)
    assert caught.value.message == (
        "The CA fake could not validate a.example: dns: no such host; b.example: connection: connection refused"
    )
    assert caught.value.type == "urn:ietf:params:acme:error:compound"
    assert caught.value.subproblems == {
        "a.example": "dns: no such host",
        "b.example": "connection: connection refused",
    }
    assert store.challenges == {}
    with pytest.raises(ChallengeFailed, match="no such host"):
        await issuer.prove(url)
    with pytest.raises(OrderLost, match="it is invalid"):
        await issuer.finalise(url, csr_der=CSR)


async def test_one_of_two_that_failed_speaks_for_itself(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.judge = lambda name: {"type": "urn:x", "detail": "no"} if name == "b.example" else None
    url = await issuer.place_order(NAMES)
    with pytest.raises(ChallengeFailed) as caught:
        await issuer.prove(url)
    assert (caught.value.type, caught.value.detail) == ("urn:x", "no")
    assert list(caught.value.subproblems) == ["b.example"]


async def test_a_wildcard_needs_another_solver(ca: FakeCA, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(normalise_identifiers(["*.a.example"]))
    with pytest.raises(ChallengeFailed, match=r"\*\.a\.example: .*offers dns-01, our solvers for it: none"):
        await issuer.prove(url)
    assert ca.count("challenge") == 0


async def test_a_lost_answer_to_a_challenge_does_not_matter(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("challenge", HANG_UP_AFTERWARDS)
    await issuer.prove(await issuer.place_order(NAMES[:1]))
    assert ca.count("challenge") == 2


async def test_a_challenge_that_was_answered_before_a_crash_is_only_polled(ca: FakeCA, make_issuer: MakeIssuer) -> None:
    ca.polls_before_decision = 10**6
    url = await make_issuer(ca.directory_url).place_order(NAMES)
    with pytest.raises(Unreachable, match="did not decide"):
        await make_issuer(ca.directory_url, limit_seconds=1.0).prove(url)
    ca.decide_after(2)
    await make_issuer(ca.directory_url).prove(url)
    assert ca.count("challenge") == 2, "one for each name, by the first run"


async def test_a_challenge_that_is_refused_is_an_error(ca: FakeCA, issuer: ACMEIssuer, store: MemoryStore) -> None:
    ca.script("challenge", problem(400, "malformed", "not like this"))
    with pytest.raises(IssuerRefused, match="refused the challenge: malformed: not like this"):
        await issuer.prove(await issuer.place_order(NAMES[:1]))
    assert store.challenges == {}


@pytest.mark.parametrize("lost", [HANG_UP, HANG_UP_AFTERWARDS, Say(500)])
async def test_a_new_order_is_sent_once_when_its_answer_is_lost(ca: FakeCA, issuer: ACMEIssuer, lost: Say) -> None:
    ca.script("new-order", lost)
    with pytest.raises(Unreachable) as caught:
        await issuer.place_order(NAMES)
    assert caught.value.retry.rule is RetryRule.BACKOFF
    assert ca.count("new-order") == 1
    found = await issuer.find_orders(tuple(reversed(NAMES)))
    assert len(found) == len(ca.orders)


async def test_orders_are_found_over_pages_and_only_those_that_fit(ca: FakeCA, issuer: ACMEIssuer) -> None:
    placed = [await issuer.place_order(names) for names in (NAMES, NAMES[:1], NAMES, NAMES[1:], NAMES)]
    ca.orders[placed[2].rsplit("/", 1)[1]]["status"] = "invalid"
    assert await issuer.find_orders(NAMES) == [placed[0], placed[4]]


async def test_a_ca_without_a_list_has_no_orders_to_find(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.has_order_list = False
    await issuer.place_order(NAMES)
    assert await issuer.find_orders(NAMES) == []


@pytest.mark.parametrize("door", ["orders", "order"])
async def test_a_refused_list_is_an_empty_one(ca: FakeCA, issuer: ACMEIssuer, door: str) -> None:
    await issuer.place_order(NAMES)
    ca.script(door, problem(404, "malformed"))
    assert await issuer.find_orders(NAMES) == []


async def test_a_list_that_nobody_answers_is_not_an_empty_one(ca: FakeCA, issuer: ACMEIssuer) -> None:
    await issuer.place_order(NAMES)
    ca.script("orders", *[Say(503)] * 4)
    with pytest.raises(Unreachable):  # else a second order would be placed beside the first
        await issuer.find_orders(NAMES)


async def test_a_lost_answer_to_the_request_is_looked_up(ca: FakeCA, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(NAMES)
    await issuer.prove(url)
    ca.script("finalize", HANG_UP_AFTERWARDS)
    await issuer.finalise(url, csr_der=CSR)
    assert ca.count("finalize") == 1
    assert "BEGIN CERTIFICATE" in await issuer.collect(url)


async def test_a_request_that_never_arrived_is_sent_again(ca: FakeCA, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(NAMES)
    await issuer.prove(url)
    ca.script("finalize", HANG_UP)
    await issuer.finalise(url, csr_der=CSR)
    assert ca.count("finalize") == 2


async def test_an_order_that_is_not_ready_after_all_is_looked_at(ca: FakeCA, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(NAMES)
    await issuer.prove(url)
    ca.script("finalize", problem(403, "orderNotReady"))
    await issuer.finalise(url, csr_der=CSR)
    assert ca.count("finalize") == 2


async def test_an_order_that_was_never_proven_is_lost(ca: FakeCA, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(NAMES)
    with pytest.raises(OrderLost, match="it is pending"):
        await issuer.finalise(url, csr_der=CSR)
    assert ca.count("finalize") == 0


async def test_the_error_of_an_order_is_told(ca: FakeCA, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(NAMES)
    await issuer.prove(url)
    ca.orders["1" if "1" in ca.orders else next(iter(ca.orders))] |= {
        "status": "invalid",
        "error": {"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden by CAA"},
    }
    ca.script("finalize", problem(403, "orderNotReady"))
    with pytest.raises(OrderLost, match="refused the order: caa: forbidden by CAA"):
        await issuer.finalise(url, csr_der=CSR)


async def test_a_bad_request_is_final(ca: FakeCA, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(NAMES)
    await issuer.prove(url)
    ca.script("finalize", problem(400, "badCSR", "weak key"))
    with pytest.raises(IssuerRefused, match="badCSR: weak key") as caught:
        await issuer.finalise(url, csr_der=CSR)
    assert caught.value.retry.rule is RetryRule.NEVER


async def test_an_order_that_the_ca_forgot_is_lost(ca: FakeCA, make_issuer: MakeIssuer, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(NAMES)
    ca.orders.clear()
    other = make_issuer(ca.directory_url)
    for work in (other.prove(url), other.finalise(url, csr_der=CSR), other.collect(url)):
        with pytest.raises(OrderLost):
            await work


async def test_a_profile_is_asked_for_only_if_the_ca_has_it(ca: FakeCA, make_issuer: MakeIssuer) -> None:
    with pytest.raises(IssuerRefused, match=r"the profile 'shortlived' is not offered \(offered: none\)"):
        await make_issuer(ca.directory_url, profile="shortlived").place_order(NAMES)
    ca.meta = {"profiles": {"shortlived": "six days", "classic": "ninety"}}
    await make_issuer(ca.directory_url, profile="shortlived").place_order(NAMES)
    assert [payload["profile"] for door, payload in ca.payloads if door == "new-order"] == ["shortlived"]


async def test_a_predecessor_is_named_only_to_a_ca_with_renewal_information(
    ca: FakeCA, make_issuer: MakeIssuer
) -> None:
    await make_issuer(ca.directory_url).place_order(NAMES, replaces="aki.serial")
    ca.more_doors = {"renewalInfo": f"{ca.url}/renewal-info"}
    issuer = make_issuer(ca.directory_url)
    await issuer.place_order(NAMES, replaces="aki.serial")
    assert [payload.get("replaces") for door, payload in ca.payloads if door == "new-order"] == [None, "aki.serial"]
    ca.script("new-order", problem(409, "alreadyReplaced", "has a successor"))
    with pytest.raises(AlreadyReplaced):
        await issuer.place_order(NAMES, replaces="aki.serial")


async def test_a_rate_limit_on_new_orders_is_raised_with_its_end(
    ca: FakeCA, issuer: ACMEIssuer, clock: FakeClock
) -> None:
    said = problem(429, "rateLimited", "too many certificates")
    ca.script("new-order", Say(429, said.body, {"Retry-After": "3600"}))
    with pytest.raises(RateLimited, match="too many certificates") as caught:
        await issuer.place_order(NAMES)
    assert caught.value.retry.at is not None
    assert (caught.value.retry.at - clock.now()).total_seconds() == 3600
    assert ca.count("new-order") == 1


@pytest.mark.parametrize(("wanted", "variant"), [("Second Root", 1), ("First Root", 0), ("No Root", 0), ("", 0)])
async def test_the_preferred_chain_is_taken_or_else_the_default(
    make_issuer: MakeIssuer, wanted: str, variant: int
) -> None:
    async with FakeCA(chains=["First Root", "Second Root"]) as ca:
        chain_pem = await issue(make_issuer(ca.directory_url, preferred_chain=wanted))
        (order,) = ca.orders.values()
        assert chain_pem.encode() == order["chains"][variant]
        assert ca.count("cert") == (2 if wanted in {"Second Root", "No Root"} else 1)


async def test_revoking_twice_is_harmless(ca: FakeCA, issuer: ACMEIssuer) -> None:
    chain_pem = await issue(issuer)
    for _ in range(2):
        await issuer.revoke(chain_pem, reason=4)
    assert [payload["reason"] for door, payload in ca.payloads if door == "revoke"] == [4, 4]


async def test_a_refused_revocation_is_an_error(ca: FakeCA, issuer: ACMEIssuer) -> None:
    chain_pem = await issue(issuer)
    ca.script("revoke", problem(403, "unauthorized", "not yours"))
    with pytest.raises(IssuerRefused, match="refused the revocation: unauthorized: not yours"):
        await issuer.revoke(chain_pem, reason=0)
    with pytest.raises(BadMaterial):
        await issuer.revoke("no certificate", reason=0)


async def test_many_orders_at_once_keep_to_themselves(ca: FakeCA, issuer: ACMEIssuer) -> None:
    chains = await asyncio.gather(*(issue(issuer) for _ in range(20)))
    assert len(set(chains)) == 20
    assert ca.count("nonce") <= 25, "answers bring the nonces"
