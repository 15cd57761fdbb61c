"""Which solver proves which name, and what the settings refuse."""

from collections.abc import Sequence

import pytest
from pydantic import TypeAdapter, ValidationError

from certorbit.model.identifiers import normalise_identifier
from certorbit.ports.solver import Solver
from certorbit.solver_settings import SolverSettings, split_server
from certorbit.solvers.assembly import make_solvers
from certorbit.solvers.dns01 import DNS01Solver
from fakes.clock import FakeChance, FakeClock
from fakes.memory_store import MemoryStore

READ = TypeAdapter[SolverSettings](SolverSettings)
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
RFC2136 = {"type": "rfc2136", "server": "192.0.2.1", "key_name": "key", "key_secret": SECRET}
WEBHOOK = {"type": "webhook", "url": "https://hook.example/dns", "secret": SECRET}
HTTP01 = {"type": "http-01"}


def order(*tables: dict[str, object]) -> Sequence[Solver]:
    settings = [READ.validate_python(table) for table in tables]
    return make_solvers(settings, store=MemoryStore(), clock=FakeClock(), chance=FakeChance()).in_order


def kind_for(solvers: Sequence[Solver], name: str) -> str:
    """Return who proves a name, as the prover chooses among solvers whose challenge the CA offers."""
    identifier = normalise_identifier(name)
    base = normalise_identifier(name.removeprefix("*."))
    for solver in solvers:
        if solver.covers(base, is_wildcard=identifier.is_wildcard):
            return solver._writer.kind if isinstance(solver, DNS01Solver) else solver.challenge_type
    return "nobody"


def test_without_tables_http01_proves_everything_but_wildcards() -> None:
    solvers = order()
    assert [kind_for(solvers, name) for name in ("a.example", "192.0.2.1", "*.a.example")] == [
        "http-01",
        "http-01",
        "nobody",
    ]


def test_the_longest_zone_wins_whatever_the_order_of_the_tables() -> None:
    tables = [
        {**WEBHOOK, "zone": "a.example"},
        {**RFC2136, "zone": "deep.a.example"},
        {**HTTP01, "zone": "www.a.example"},
    ]
    for solvers in (order(*tables), order(*reversed(tables))):
        assert kind_for(solvers, "x.deep.a.example") == "rfc2136"
        assert kind_for(solvers, "deep.a.example") == "rfc2136"
        assert kind_for(solvers, "x.a.example") == "webhook"
        assert kind_for(solvers, "www.a.example") == "http-01"
        assert kind_for(solvers, "*.www.a.example") == "webhook"
        assert kind_for(solvers, "b.example") == "nobody"


def test_http01_stays_for_what_no_table_covers_unless_a_table_is_for_it() -> None:
    assert kind_for(order({**RFC2136, "zone": "a.example"}), "b.example") == "http-01"
    assert kind_for(order({**HTTP01, "zone": "a.example"}), "b.example") == "nobody"
    assert kind_for(order(RFC2136), "b.example") == "rfc2136"
    assert kind_for(order(RFC2136), "192.0.2.1") == "http-01"


def test_of_two_for_one_zone_the_first_is_used() -> None:
    assert kind_for(order(HTTP01, RFC2136), "a.example") == "http-01"
    assert kind_for(order(HTTP01, RFC2136), "*.a.example") == "rfc2136"
    assert kind_for(order(WEBHOOK, RFC2136), "a.example") == "webhook"
    assert kind_for(order(RFC2136, WEBHOOK), "a.example") == "rfc2136"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        pytest.param({"type": "carrier-pigeon"}, "http-01", id="unknown-type"),
        pytest.param({}, "discriminator", id="no-type"),
        pytest.param({**RFC2136, "url": "https://x"}, "url", id="option-of-another-type"),
        pytest.param({**RFC2136, "key_name": ""}, "go together", id="half-a-key"),
        pytest.param({**RFC2136, "key_secret": SECRET + "!"}, "base64", id="key-not-base64"),
        pytest.param({**RFC2136, "server": "two words"}, "no name server", id="server"),
        pytest.param({**RFC2136, "resolvers": ["ns.example.com"]}, "no IP address", id="resolver-by-name"),
        pytest.param({**RFC2136, "check_servers": ["192.0.2.1:99999"]}, "no name server", id="port"),
        pytest.param({**RFC2136, "zone": "exa mple"}, "no zone", id="zone"),
        pytest.param({**RFC2136, "wait_seconds": -1}, "wait_seconds", id="negative-wait"),
        pytest.param({**RFC2136, "key_algorithm": "hmac-md5"}, "hmac-sha256", id="weak-algorithm"),
        pytest.param({**WEBHOOK, "secret": "short"}, "16", id="short-secret"),
        pytest.param({**WEBHOOK, "url": "ftp://hook.example"}, "url", id="scheme"),
        pytest.param({**WEBHOOK, "url": "https://user:word@hook.example"}, "url", id="password-in-url"),
        pytest.param({"type": "route53", "access_key_id": "AK"}, "go together", id="half-of-amazon's-keys"),
        pytest.param({"type": "lexicon", "provider": "../x"}, "provider", id="provider"),
    ],
)
def test_a_wrong_table_is_refused_and_its_secrets_not_repeated(table: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        READ.validate_python(table)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
        ("ns.example.com:54", ("ns.example.com", 54)),
    ],
)
def test_name_servers_are_read_in_all_usual_forms(text: str, expected: tuple[str, int]) -> None:
    assert split_server(text) == expected
