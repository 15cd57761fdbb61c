"""The authorization matrix: every route and method of the application, as every sort of caller."""

import asyncio
import http.client
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.authorization_matrix import BEGIN, END, NO_KEY, PAGE, ROLES, TABLE, Rule, render
from api.server import API, run_api
from certorbit.api.app import make_app
from certorbit.api.authentication import Need, Reach
from certorbit.api.dialects import DIALECTS
from certorbit.model.access import RIGHTS, KeyTerms, Right, Role
from certorbit.model.entry import ConfigID
from certorbit.ports.store import UnitOfWork
from certorbit.services.api_keys import create_key, new_secret, revoke_key
from records import make_configuration

OWN, ELSEWHERE = ConfigID("prod"), ConfigID("elsewhere")
# Nothing of this exists: what is let in finds nothing, and changes nothing.
VALUES = {"config": OWN, "number": "2147483647"}
NOTHING = "nothing"


def row_of(method: str, path: str) -> str:
    """Return the name of the row in the table that a route has."""
    for dialect in DIALECTS:
        if path.startswith(f"{dialect.prefix}/"):
            return f"{method} {{dialect}}{path.removeprefix(dialect.prefix)}"
    return f"{method} {path}"


def list_routes(api: API) -> Iterator[tuple[str, APIRoute]]:
    for route in make_app(api.parts).routes:
        assert isinstance(route, APIRoute), f"{route} is no route that can be looked at"
        for method in route.methods:
            yield method, route


def needs_of(dependant: Dependant) -> Iterator[Need]:
    for part in dependant.dependencies:
        if isinstance(part.call, Need):
            yield part.call
        yield from needs_of(part)


def path_of(route: APIRoute) -> str:
    values = {name: VALUES.get(name, NOTHING) for name in route.param_convertors}
    return route.path.format(**values)


@pytest.fixture(scope="module")
def matrix_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, dict[str, str]]]:
    """An API with two configurations, and a key of every sort by name."""
    with run_api(tmp_path_factory.mktemp("api"), access={"failures_per_minute": 10_000}) as api:
        secrets = {name: new_secret() for name, _ in list_terms(api)}

        def fill(tx: UnitOfWork) -> None:
            tx.configurations.add(make_configuration(ELSEWHERE))
            now = api.clock.now()
            for name, terms in list_terms(api):
                secret = secrets[name]
                key = create_key(tx, terms, now=now, new_id=api.parts.new_id, secret=secret)
                if name == "revoked":
                    revoke_key(tx, key.id, now=now)

        asyncio.run(api.parts.store.write(fill))
        api.clock.advance(60)
        yield api, secrets


def list_terms(api: API) -> Iterator[tuple[str, KeyTerms]]:
    for role in Role:
        for where, configurations in (("", ()), (" of its own", (OWN,)), (" of elsewhere", (ELSEWHERE,))):
            yield f"{role}{where}", KeyTerms(name=f"{role}{where}", role=role, configurations=configurations)
    yield "revoked", KeyTerms(name="revoked", role=Role.ADMIN)
    ends = api.clock.now() + timedelta(seconds=1)
    yield "ended", KeyTerms(name="ended", role=Role.ADMIN, expires_at=ends)
    yield "from afar", KeyTerms(name="from afar", role=Role.ADMIN, allowed_addresses=("192.0.2.0/24",))


CALLERS = [f"{role}{where}" for role in Role for where in ("", " of its own", " of elsewhere")]


def expected(rule: Rule, caller: str, path: str) -> str:
    """Return what the table says of a caller with a good key: allowed or refused."""
    role, _, limit = caller.partition(" of ")
    if rule.roles == NO_KEY:
        return "allowed"
    if role not in rule.roles or (limit and rule.reach == "all"):
        return "refused"
    return "refused" if limit == "elsewhere" and "{config}" in path else "allowed"


def test_every_route_has_a_rule_and_every_rule_a_route(shared_api: API) -> None:
    rows = {row_of(method, route.path) for method, route in list_routes(shared_api)}
    assert rows - set(TABLE) == set(), "routes without a rule: add them to authorization_matrix.py"
    assert set(TABLE) - rows == set(), "rules without a route"
    assert set(ROLES) == {role.value for role in Role}


def test_every_route_declares_what_the_table_says(shared_api: API) -> None:
    for method, route in list_routes(shared_api):
        rule, found = TABLE[row_of(method, route.path)], list(needs_of(route.dependant))
        if rule.roles == NO_KEY:
            assert not found, route.path
            continue
        assert len(found) == 1, f"{method} {route.path} must declare one right"
        (need,) = found
        assert {role.value for role in Role if need.right in RIGHTS[role]} == set(rule.roles), route.path
        concerns_all = need.reach is Reach.EVERYWHERE or (need.reach is Reach.PATH and "{config}" not in route.path)
        assert concerns_all == (rule.reach == "all"), route.path


@pytest.mark.parametrize("caller", CALLERS)
def test_every_route_lets_in_whom_the_table_lets_in(matrix_api: tuple[API, dict[str, str]], caller: str) -> None:
    api, secrets = matrix_api
    for row, path, status, answer in ask_everything(api, secrets[caller]):
        got = "refused" if status in {401, 403} else "allowed"
        assert got == expected(TABLE[row], caller, path), (row, status, answer)
        assert status != 401, row
        assert status < 500, (row, answer)


@pytest.mark.parametrize(
    ("caller", "wanted"), [("no key", 401), ("unknown", 401), ("revoked", 401), ("ended", 401), ("from afar", 403)]
)
def test_nobody_else_gets_in_anywhere(matrix_api: tuple[API, dict[str, str]], caller: str, wanted: int) -> None:
    api, secrets = matrix_api
    secret = {"no key": "", "unknown": new_secret()}.get(caller) or secrets.get(caller, "")
    for row, _, status, answer in ask_everything(api, secret):
        if TABLE[row].roles == NO_KEY:
            assert status in {200, 404}, row
        else:
            assert status == wanted, (row, answer)


def ask_everything(api: API, secret: str) -> Iterator[tuple[str, str, int, Any]]:
    """Yield row, path template, status and answer of each route."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    for method, route in list_routes(api):
        connection.request(method, path_of(route), headers=headers)
        response = connection.getresponse()
        yield row_of(method, route.path), route.path, response.status, response.read()
    connection.close()


@pytest.mark.parametrize("role", list(Role))
def test_no_role_gives_the_right_to_export_keys(role: Role) -> None:
    assert Right.EXPORT_KEYS not in RIGHTS[role]


def test_the_page_shows_this_table() -> None:
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown == render(), "stale: run `.venv/bin/python tests/api/authorization_matrix.py`"
