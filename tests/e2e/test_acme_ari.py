"""Our ARI client against an ACME server of other people's (RFC 9773)."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certorbit.acme.issuer import ACMEIssuer
from certorbit.clock import SystemChance, SystemClock
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.renewal import Reason, RenewalRules, decide, lifetime_of
from certorbit.pki.ari import make_cert_id
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts
from certorbit.settings import IssuerSettings
from certorbit.solvers.http01 import HTTP01Solver
from e2e.ari_server import running_ari_server
from fakes.fake_chains import make_csr
from fakes.memory_keyring import MemoryKeyring
from fakes.memory_store import MemoryStore
from make import make_certificate, make_key, pem

NAME = "ari.example.org"
CLOCK = SystemClock()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[str], ACMEIssuer]]:
    """Start a server with some lines of its [Renewalinfo], and return an issuer for it."""
    async with AsyncExitStack() as stack:

        def run(renewal_info: str) -> ACMEIssuer:
            directory = stack.enter_context(running_ari_server(tmp_path / "ca", renewal_info=renewal_info))
            store = MemoryStore()
            issuer = ACMEIssuer(
                settings=IssuerSettings(name="ari", directory=directory, contact=("mailto:ops@example.org",)),
                store=store,
                keyring=MemoryKeyring(),
                solvers=[HTTP01Solver(store=store, clock=CLOCK)],
                clock=CLOCK,
                chance=SystemChance(),
                max_requests_in_flight=1,  # it serves one connection at a time
            )
            stack.push_async_callback(issuer.close)
            return issuer

        yield run


async def issue(issuer: ACMEIssuer, *, replaces: str | None = None) -> str:
    order_url = await issuer.place_order(normalise_identifiers([NAME]), replaces=replaces)
    await issuer.prove(order_url)
    await issuer.finalise(order_url, csr_der=make_csr(NAME))
    return await issuer.collect(order_url)


async def test_the_server_knows_the_certificate_by_our_cert_id(start: Callable[[str], ACMEIssuer]) -> None:
    issuer = start("renewalthreshold_pctg: 66\nrenewal_window_duration: 2d\nretry_after_timeout: 21600")
    chain_pem = await issue(issuer)
    facts = read_facts(read_certificates(chain_pem)[0])

    info = await issuer.renewal_info(chain_pem, previous=None)

    assert info is not None
    assert info.problem == ""
    assert info.start is not None
    assert info.end is not None
    assert info.chosen_at is not None
    assert info.end - info.start == timedelta(days=2)
    assert facts.not_before < info.start <= info.chosen_at <= info.end < facts.not_after
    assert info.next_check_at - info.checked_at == timedelta(hours=6)
    decision = decide(lifetime_of(facts), info=info, now=CLOCK.now(), rules=RenewalRules())
    assert (decision.due_at, decision.reason) == (info.chosen_at, Reason.ARI)
    assert decision.next_look_at == info.next_check_at
    again = await issuer.renewal_info(chain_pem, previous=info)
    assert again is not None
    assert (again.chosen_at, again.problem) == (info.chosen_at, "")


async def test_a_server_that_wants_certificates_back_gets_them_renewed_now(
    start: Callable[[str], ACMEIssuer],
) -> None:
    issuer = start("renewal_force: True")
    chain_pem = await issue(issuer)
    life = lifetime_of(read_facts(read_certificates(chain_pem)[0]))

    info = await issuer.renewal_info(chain_pem, previous=None)

    assert info is not None
    now = CLOCK.now()
    assert info.start is not None
    assert info.start < life.not_before
    assert info.is_inside(now)
    decision = decide(life, info=info, now=now, rules=RenewalRules())
    assert decision.reason is Reason.ARI
    # Its window is a year that ends tomorrow, and the instant is random: now, or within the day.
    assert now <= decision.due_at <= now + timedelta(days=1)
    successor_pem = await issue(issuer, replaces=make_cert_id(chain_pem))
    assert make_cert_id(successor_pem) != make_cert_id(chain_pem)


async def test_a_certificate_that_the_server_does_not_know_is_a_noted_failure(
    start: Callable[[str], ACMEIssuer],
) -> None:
    issuer = start("")
    identifier = x509.AuthorityKeyIdentifier(b"somebody else's key", None, None)
    stranger = make_certificate(key=make_key(), names=[NAME], serial=0x87654321, extensions=[identifier])

    info = await issuer.renewal_info(pem(stranger), previous=None)

    assert info is not None
    assert "The CA ari refused the renewal information" in info.problem
    assert (info.chosen_at, info.failures) == (None, 1)
    assert timedelta(hours=6) <= info.next_check_at - info.checked_at <= timedelta(hours=6, minutes=36)
