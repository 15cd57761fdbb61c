"""The ACME client with DNS-01: which solver is taken, and that no record is left behind, also after a death."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from certorbit.acme.issuer import ACMEIssuer
from certorbit.errors import ChallengeFailed, SolverFailed
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.operation import problem_from
from certorbit.net.resolve import Resolution
from certorbit.ports.solver import Solver
from certorbit.settings import IssuerSettings
from certorbit.solver_settings import DNSSolverSettings
from certorbit.solvers.dns01 import DNS01Solver, NameLocks
from certorbit.solvers.http01 import HTTP01Solver
from certorbit.solvers.propagation import Propagation
from fakes.clock import FakeChance, FakeClock
from fakes.fake_ca import FakeCA
from fakes.memory_dns import MemoryDNSWriter
from fakes.memory_keyring import MemoryKeyring
from fakes.memory_store import MemoryStore

ZONE = "a.example"
NAME = f"_acme-challenge.{ZONE}"


class Scene:
    """Issuers ("processes") with one account, one DNS and one CA."""

    def __init__(self, ca: FakeCA, store: MemoryStore, keyring: MemoryKeyring, clock: FakeClock) -> None:
        self.ca = ca
        self.dns = MemoryDNSWriter()
        self.store = store
        self._keyring = keyring
        self._clock = clock
        self.stack = AsyncExitStack()

    def solver(self, **changes: object) -> DNS01Solver:
        values: dict[str, Any] = {"zone": ZONE, "dns_zone": ZONE, "follow_cname": False, "wait_seconds": 0, **changes}
        settings = DNSSolverSettings.model_validate(values)
        resolution = Resolution()
        propagation = Propagation(
            kind="memory", settings=settings, resolution=resolution, clock=self._clock, chance=FakeChance()
        )
        return DNS01Solver(
            writer=self.dns, settings=settings, resolution=resolution, propagation=propagation, locks=NameLocks()
        )

    def process(self, solvers: Sequence[Solver] | None = None) -> ACMEIssuer:
        issuer = ACMEIssuer(
            settings=IssuerSettings(name="fake", directory=self.ca.directory_url),
            store=self.store,
            keyring=self._keyring,
            solvers=solvers or [self.solver(), HTTP01Solver(store=self.store, clock=self._clock)],
            clock=self._clock,
            chance=FakeChance(),
        )
        self.stack.push_async_callback(issuer.close)
        return issuer


@pytest.fixture
async def scene(ca: FakeCA, store: MemoryStore, keyring: MemoryKeyring, clock: FakeClock) -> AsyncIterator[Scene]:
    made = Scene(ca, store, keyring, clock)
    async with made.stack:
        yield made


def left(scene: Scene) -> list[str]:
    return [value for values in scene.dns.values.values() for value in values]


async def test_apex_and_wildcard_are_proven_by_dns01_and_the_rest_by_http01(scene: Scene) -> None:
    issuer = scene.process()
    url = await issuer.place_order(normalise_identifiers([ZONE, f"*.{ZONE}", "b.example"]))
    await issuer.prove(url)
    assert [call[:2] for call in scene.dns.calls if call[0] == "add"] == [("add", NAME)] * 2
    assert left(scene) == []
    statuses = {a["status"] for a in scene.ca.authorizations.values()}
    used = sorted(
        c["type"] for a in scene.ca.authorizations.values() for c in a["challenges"] if c["status"] == "valid"
    )
    assert (statuses, used) == ({"valid"}, ["dns-01", "dns-01", "http-01"])


async def test_a_solver_whose_challenge_is_not_offered_is_passed_over(scene: Scene) -> None:
    scene.ca.challenge_types = ["http-01"]
    issuer = scene.process()
    await issuer.prove(await issuer.place_order(normalise_identifiers([ZONE])))
    assert scene.dns.calls == []


async def test_a_wildcard_that_no_solver_covers_is_known_before_the_order(scene: Scene) -> None:
    issuer = scene.process()
    assert issuer.can_issue_wildcards
    covered = normalise_identifiers([ZONE, f"*.{ZONE}", f"*.x.{ZONE}", "b.example", "192.0.2.1"])
    assert [issuer.covers(identifier) for identifier in covered] == [True] * 5
    assert not issuer.covers(normalise_identifiers(["*.b.example"])[0])
    assert not scene.process([HTTP01Solver(store=scene.store, clock=FakeClock())]).can_issue_wildcards


async def test_a_failed_validation_leaves_nothing_behind(scene: Scene) -> None:
    scene.ca.judge = lambda _: {"type": "urn:ietf:params:acme:error:dns", "detail": "no"}
    issuer = scene.process()
    url = await issuer.place_order(normalise_identifiers([f"*.{ZONE}"]))
    with pytest.raises(ChallengeFailed):
        await issuer.prove(url)
    assert left(scene) == []


async def test_a_solver_that_fails_spends_no_challenge_keeps_the_order_and_blames_no_ca(scene: Scene) -> None:
    issuer = scene.process()
    url = await issuer.place_order(normalise_identifiers([ZONE, f"*.{ZONE}"]))
    scene.dns.problem = SolverFailed("The provider is away.", subject=ZONE)
    with pytest.raises(SolverFailed) as caught:
        await issuer.prove(url)
    problem = problem_from(caught.value)
    assert (problem.keeps_order, problem.blames_issuer) == (True, False)
    assert scene.ca.count("challenge") == 0
    scene.dns.problem = None
    await issuer.prove(url)
    assert left(scene) == []


@pytest.mark.parametrize("end", ["valid", "invalid"])
@pytest.mark.parametrize("names", [[f"*.{ZONE}"], [ZONE, f"*.{ZONE}", "b.example"]], ids=["all", "some"])
async def test_what_a_dead_process_left_is_taken_away_by_the_next(scene: Scene, end: str, names: list[str]) -> None:
    """The first process dies after the CA has decided and before it cleans up."""
    if end == "invalid":
        scene.ca.judge = lambda _: {"type": "urn:ietf:params:acme:error:dns", "detail": "no"}
    first = scene.process()
    url = await first.place_order(normalise_identifiers(names))
    scene.dns.values[NAME] = ["foreign"]
    with suppress(ChallengeFailed):
        await first.prove(url)
    shown = [value for action, _, value in scene.dns.calls if action == "add"]
    scene.dns.values[NAME] = ["foreign", *shown]  # as it was at its death

    second = scene.process()
    try:
        await second.prove(url)
    except ChallengeFailed:
        assert end == "invalid"
    else:
        assert end == "valid"
    assert left(scene) == ["foreign"]


async def test_an_order_in_one_go_cleans_up_once(scene: Scene) -> None:
    issuer = scene.process()
    url = await issuer.place_order(normalise_identifiers([f"*.{ZONE}"]))
    for _ in range(2):
        await issuer.prove(url)
    assert [action for action, _, _ in scene.dns.calls] == ["add", "remove"]
