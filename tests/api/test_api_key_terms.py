"""API keys over HTTP: terms, change, rotation, ends, addresses, last use; and keys of some configurations."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.server import API, CERTS, SECRETS, Answer, FakeIssuer, run_api, serve
from api.shapes import assert_error, assert_validation
from certorbit.api.app import make_app
from certorbit.model.access import APIKeyID, KeyTerms, Role
from certorbit.model.entry import ConfigID
from certorbit.model.operation import OperationKind, OperationState
from certorbit.ports.target import PlacedTarget
from certorbit.services.api_keys import create_key, new_secret
from fakes.fake_target import FakeTarget
from records import make_configuration, make_operation

NATIVE = "/api/certorbit/v1"
KEYS = f"{NATIVE}/api-keys"
HOUR = timedelta(hours=1)


def make_key(api: API, **fields: object) -> dict[str, Any]:
    answer = api.call("POST", KEYS, document={"name": "another", **fields})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json
    return made


def ask(api: API, secret: str, path: str = CERTS, *, method: str = "GET", **headers: str) -> Answer:
    sent = {"Authorization": f"Bearer {secret}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return api.call(method, path, key=None, headers=sent)


def record_of(api: API, key_id: str) -> dict[str, Any]:
    record: dict[str, Any] = next(i for i in api.call("GET", KEYS).json["items"] if i["id"] == key_id)
    return record


def test_a_key_is_made_with_all_of_its_terms(api: API) -> None:
    terms = {
        "role": "edge",
        "may_export_keys": True,
        "configurations": ["prod"],
        "allowed_addresses": ["127.0.0.0/8", "::1"],
        "expires_at": "2027-01-01T01:00:00+01:00",
    }
    made = make_key(api, **terms)
    shown = {**terms, "allowed_addresses": ["127.0.0.0/8", "::1/128"], "expires_at": "2027-01-01T00:00:00.000Z"}
    assert {name: made[name] for name in terms} == shown
    assert ask(api, made["key"]).status == 200
    assert_error(ask(api, made["key"], "/api/v4.3/conf/configs"), 403)


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"configurations": "prod"}, ("configurations",)),
        ({"configurations": [1]}, ("configurations", 0)),
        ({"allowed_addresses": ["a\x00b"]}, ("allowed_addresses", 0)),
        ({"expires_at": "tomorrow"}, ("expires_at",)),
        ({"expires_at": "2027-01-01T00:00:00"}, ("expires_at",)),
    ],
)
def test_malformed_terms_are_422(api: API, fields: dict[str, object], loc: tuple[str | int, ...]) -> None:
    assert_validation(api.call("POST", KEYS, document={"name": "a", **fields}), "body", *loc)


def test_the_older_name_of_a_role_is_still_taken(api: API) -> None:
    assert make_key(api, role="read-only")["role"] == "viewer"


def test_a_change_is_seen_at_once_and_leaves_the_secret(api: API) -> None:
    made = make_key(api, role="operator")
    assert ask(api, made["key"], f"{CERTS}/unknown", method="DELETE").status == 404
    changed = api.call("PATCH", f"{KEYS}/{made['id']}", document={"role": "viewer", "name": "less"})
    assert (changed.status, changed.json["role"], changed.json["name"]) == (200, "viewer", "less")
    assert "key" not in changed.json
    assert_error(ask(api, made["key"], f"{CERTS}/unknown", method="DELETE"), 403, says="less")
    ended = api.call("PATCH", f"{KEYS}/{made['id']}", document={"expires_at": "2027-01-01T00:00:00Z"})
    assert ended.json["role"] == "viewer"
    assert api.call("PATCH", f"{KEYS}/{made['id']}", document={"expires_at": None}).json["expires_at"] is None
    assert_error(api.call("PATCH", f"{KEYS}/{made['id']}", document={}), 400, says="changes nothing")
    assert_validation(api.call("PATCH", f"{KEYS}/{made['id']}", document={"key": "co_mine"}), "body", "key")


def test_a_rotation_shows_the_new_secret_once_and_lets_the_old_one_work_for_a_while(api: API) -> None:
    made = make_key(api)
    rotated = api.call("POST", f"{KEYS}/{made['id']}/rotate", document={"overlap_hours": 2})
    assert rotated.status == 201
    new = rotated.json["key"]
    assert (rotated.json["id"], rotated.json["prefix"]) == (made["id"], new[:8])
    assert (ask(api, made["key"]).status, ask(api, new).status) == (200, 200)
    listed = api.call("GET", KEYS)
    assert not [secret for secret in (made["key"], new) if secret in listed.body.decode()]
    api.clock.advance(hours=2)
    assert (ask(api, made["key"]).status, ask(api, new).status) == (401, 200)


def test_without_an_overlap_the_old_secret_is_refused_at_once(api: API) -> None:
    made = make_key(api)
    assert ask(api, made["key"]).status == 200
    new = api.call("POST", f"{KEYS}/{made['id']}/rotate", document={"overlap_hours": 0}).json["key"]
    assert (ask(api, made["key"]).status, ask(api, new).status) == (401, 200)
    assert_validation(
        api.call("POST", f"{KEYS}/{made['id']}/rotate", document={"overlap_hours": -1}), "body", "overlap_hours"
    )


def test_a_key_is_refused_at_its_end_though_it_was_just_used(api: API) -> None:
    made = make_key(api, expires_at=(api.clock.now() + timedelta(seconds=1)).isoformat())
    assert ask(api, made["key"]).status == 200
    api.clock.advance(1)
    assert_error(ask(api, made["key"]), 401, says="ended at")


def test_only_who_may_export_keys_gives_that_right(api: API) -> None:
    document = {"name": "hook", "may_export_keys": True}
    assert_error(api.call("POST", KEYS, key="admin-no-export", document=document), 403, says="export private keys")
    exporting = make_key(api, may_export_keys=True)["id"]
    assert_error(api.call("POST", f"{KEYS}/{exporting}/rotate", key="admin-no-export"), 403)


def test_a_key_works_from_its_addresses_only(api: API) -> None:
    afar = make_key(api, allowed_addresses=["192.0.2.0/24"])
    assert_error(ask(api, afar["key"]), 403, says="may not be used from 127.0.0.1")
    assert_error(ask(api, afar["key"], x_forwarded_for="192.0.2.1"), 403)
    near = make_key(api, allowed_addresses=["127.0.0.1"])
    assert ask(api, near["key"]).status == 200


def test_behind_a_proxy_of_ours_the_forwarded_address_counts(tmp_path_factory: pytest.TempPathFactory) -> None:
    with run_api(tmp_path_factory.mktemp("api"), access={"trusted_proxies": ["127.0.0.0/8"]}) as api:
        key = make_key(api, allowed_addresses=["192.0.2.0/24"])
        assert ask(api, key["key"], x_forwarded_for="198.51.100.1, 192.0.2.1").status == 200
        assert_error(ask(api, key["key"], x_forwarded_for="192.0.2.1, 198.51.100.1"), 403, says="198.51.100.1")
        assert_error(ask(api, key["key"]), 403, says="127.0.0.1")


def wait_for_use(api: API, key_id: str, wanted: tuple[str, str]) -> None:
    """The note is written in the background: ask until it is there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        record = record_of(api, key_id)
        if (record["last_used_at"], record["last_used_from"]) == wanted:
            return
    pytest.fail(f"{record} instead of {wanted}")


def test_the_last_use_is_written_down_once_a_minute(fresh_api: API) -> None:
    api = fresh_api
    made = make_key(api)
    assert (made["last_used_at"], made["last_used_from"]) == (None, "")
    assert ask(api, made["key"]).status == 200
    wait_for_use(api, made["id"], ("2026-11-24T12:00:00.000Z", "127.0.0.1"))
    api.clock.advance(59)
    assert ask(api, made["key"]).status == 200
    api.clock.advance(1)
    other = make_key(api)
    assert ask(api, other["key"]).status == 200
    wait_for_use(api, other["id"], ("2026-11-24T12:01:00.000Z", "127.0.0.1"))
    assert record_of(api, made["id"])["last_used_at"] == "2026-11-24T12:00:00.000Z"
    assert ask(api, made["key"]).status == 200
    wait_for_use(api, made["id"], ("2026-11-24T12:01:00.000Z", "127.0.0.1"))


def test_the_last_administrator_is_not_taken_away(fresh_api: API) -> None:
    api = fresh_api
    ids = {item["name"]: item["id"] for item in api.call("GET", KEYS).json["items"]}
    assert api.call("DELETE", f"{KEYS}/{ids['admin-no-export']}").status == 204
    for method, document in (("DELETE", None), ("PATCH", {"role": "viewer"}), ("PATCH", {"configurations": ["prod"]})):
        answer = api.call(method, f"{KEYS}/{ids['admin']}", document=document)
        assert_error(answer, 400, says="last administrator's key")
    answer = api.call("PATCH", f"{KEYS}/{ids['admin']}", document={"allowed_addresses": ["192.0.2.1"]})
    assert_error(answer, 400, says="you would shut yourself out")
    assert api.call("GET", KEYS).status == 200


@pytest.fixture(scope="module")
def two_configurations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, str]]:
    """An API with an operation in each of two configurations, and the secret of an operator of `shop`."""
    with run_api(tmp_path_factory.mktemp("api")) as api:
        secret, now = new_secret(), api.clock.now()
        terms = KeyTerms(name="shop", role=Role.OPERATOR, configurations=(ConfigID("shop"),))

        def fill(tx: Any) -> None:
            tx.configurations.add(make_configuration("shop"))
            create_key(tx, terms, now=now, new_id=api.parts.new_id, secret=secret)
            for config in ("prod", "shop"):
                for kind in (OperationKind.ISSUE, OperationKind.DEPLOY):
                    tx.operations.add(
                        make_operation(f"{config}-{kind}", config=config, kind=kind, state=OperationState.WAITING)
                    )

        asyncio.run(api.parts.store.write(fill))
        yield api, secret


def test_a_key_of_some_configurations_sees_only_these(two_configurations: tuple[API, str]) -> None:
    api, secret = two_configurations
    for dialect in ("v4", "v4.0", "v4.3"):
        listed = ask(api, secret, f"/api/{dialect}/conf/configs").json
        assert (listed["total"], [item["id"] for item in listed["items"]]) == (1, ["shop"])
        assert ask(api, secret, f"/api/{dialect}/conf/configs/shop").status == 200
        for unseen in ("prod", "nowhere"):  # whether there is such a configuration isn't told
            answer = ask(api, secret, f"/api/{dialect}/conf/{unseen}/certificates")
            assert_error(answer, 403, says=f"not for the configuration '{unseen}', only for shop")
    assert api.call("GET", "/api/v4/conf/configs").json["total"] == 2


@pytest.mark.parametrize(("path", "count"), [("operations", 2), ("deployments", 1)])
def test_lists_of_operations_show_only_its_own(two_configurations: tuple[API, str], path: str, count: int) -> None:
    api, secret = two_configurations
    listed = ask(api, secret, f"{NATIVE}/{path}").json
    assert (listed["total"], {item["config"] for item in listed["items"]}) == (count, {"shop"})
    assert ask(api, secret, f"{NATIVE}/{path}?config=shop").json["total"] == count
    assert_error(ask(api, secret, f"{NATIVE}/{path}?config=prod"), 403)
    assert api.call("GET", f"{NATIVE}/{path}").json["total"] == 2 * count


def test_an_operation_of_another_configuration_can_be_neither_seen_nor_changed(
    two_configurations: tuple[API, str],
) -> None:
    api, secret = two_configurations
    for method, path in (
        ("GET", "operations/prod-issue"),
        ("POST", "operations/prod-issue/retry"),
        ("POST", "operations/prod-issue/cancel"),
        ("GET", "deployments/prod-deploy"),
    ):
        assert_error(ask(api, secret, f"{NATIVE}/{path}", method=method), 403, says="'prod'")
        assert ask(api, secret, f"{NATIVE}/{path.replace('prod', 'shop')}", method=method).status != 403
    assert api.call("GET", f"{NATIVE}/operations/prod-issue").json["state"] == "waiting"


def test_issuers_and_targets_of_others_are_not_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = "https://ca.example.test/directory"
    issuers = tuple(FakeIssuer(name=name, directory=directory, can_issue_wildcards=False) for name in ("acme", "other"))
    with run_api(
        tmp_path_factory.mktemp("api"),
        issuers=issuers,
        acme_directory=directory,
        configurations={"prod": {"issuers": ["acme"]}},
    ) as api:
        targets = {
            name: PlacedTarget(target=FakeTarget(name), configurations=configurations, grace_seconds=0.0)
            for name, configurations in (("all", ()), ("ours", ("prod", "shop")), ("theirs", ("shop",)))
        }
        made = make_key(api, configurations=["prod"])
        with serve(make_app(replace(api.parts, targets=targets))) as port:
            limited = replace(api, port=port)
            shown = ask(limited, made["key"], f"{NATIVE}/issuers").json
            assert (shown["total"], [item["name"] for item in shown["items"]]) == (1, ["acme"])
            shown = ask(limited, made["key"], f"{NATIVE}/targets").json
            assert {item["name"]: item["configurations"] for item in shown["items"]} == {"all": [], "ours": ["prod"]}
            assert limited.call("GET", f"{NATIVE}/issuers").json["total"] == 2
            assert limited.call("GET", f"{NATIVE}/targets").json["total"] == 3
            answer = ask(limited, made["key"], f"{NATIVE}/targets/ours/check", method="POST")
            assert_error(answer, 403)


def test_a_revocation_ends_both_secrets_of_a_rotated_key(api: API) -> None:
    made = make_key(api)
    new = api.call("POST", f"{KEYS}/{made['id']}/rotate").json["key"]
    assert (ask(api, made["key"]).status, ask(api, new).status) == (200, 200)
    assert api.call("DELETE", f"{KEYS}/{APIKeyID(made['id'])}").status == 204
    assert (ask(api, made["key"]).status, ask(api, new).status) == (401, 401)
    assert SECRETS["admin"] not in api.log_text.getvalue()
