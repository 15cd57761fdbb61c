"""Who is signed in, as administrators see it, and the end of sessions: one, all of a person's, one's own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.balancing import write
from api.hostile_provider import HostileProvider, settings_of, sign_in
from api.server import API, SECRETS, captured_logs
from api.shapes import assert_error, assert_validation
from api.signing_in import Browser, run_sign_in
from certorbit.cli.main import app
from certorbit.model.audit import Action, AuditEvent

PATH = "/api/certorbit/v1/sessions"
AUDIT = "/api/certorbit/v1/audit"
Enter = Callable[..., Browser]


@pytest.fixture
def enter(console: API, provider: HostileProvider) -> Iterator[Enter]:
    """Signs a person in, with a browser of his own; afterwards nobody is signed in any more."""

    def enter(subject: str, *, group: str = "sre") -> Browser:
        console.clock.advance(1)  # no two in one instant
        provider.changes = {"sub": subject, "groups": [group]}
        browser = Browser()
        assert sign_in(browser, console, provider).status == 303
        return browser

    yield enter
    for item in console.call("GET", PATH).json["items"]:
        assert console.call("DELETE", f"{PATH}/{item['id']}").status == 204


def status(browser: Browser, api: API) -> int:
    return browser.get(f"{api.url}/auth/me").status


def listed(api: API, query: str = "") -> list[dict[str, Any]]:
    answer = api.call("GET", f"{PATH}{query}")
    assert answer.status == 200, answer.body
    assert answer.json["total"] == len(answer.json["items"])
    found: list[dict[str, Any]] = answer.json["items"]
    return found


def test_an_administrator_sees_who_is_signed_in_and_never_a_cookie(console: API, enter: Enter) -> None:
    ada = enter("ada", group="platform-admins")
    console.clock.advance(minutes=2)
    oscar = enter("oscar")
    console.clock.advance(minutes=3)
    assert status(ada, console) == 200
    answer = console.call("GET", PATH)
    newest, oldest = answer.json["items"]
    assert newest["subject"] == "oscar"
    assert oldest == {
        "id": oldest["id"],
        "subject": "ada",
        "name": "oidc:ada",
        "email": "",
        "role": "admin",
        "may_export_keys": False,
        "configurations": [],
        "created_at": oldest["created_at"],
        "last_seen_at": oldest["last_seen_at"],
        "expires_at": ada.get(f"{console.url}/auth/me").json["expires_at"],
        "address": "127.0.0.1",
    }
    assert oldest["created_at"] < newest["created_at"] < oldest["last_seen_at"]
    for browser in (ada, oscar):
        cookie = browser.cookies["certorbit-session"]
        assert cookie.encode() not in answer.body
        found = console.call("GET", f"{AUDIT}?action=session.started&limit=2").body
        assert cookie.encode() not in found
    assert b"digest" not in answer.body


def test_one_persons_sessions_can_be_asked_for(console: API, enter: Enter) -> None:
    for subject in ("ada", "oscar", "ada"):
        enter(subject)
    assert [item["subject"] for item in listed(console, "?subject=ada")] == ["ada", "ada"]
    assert listed(console, "?subject=Ada") == []
    assert listed(console, "?subject=ada%00") == []
    assert_validation(console.call("GET", f"{PATH}?subject="), "query", "subject")


def test_a_session_that_is_over_is_not_listed(console: API, enter: Enter) -> None:
    enter("ada")
    console.clock.advance(hours=1)  # idle for longer than it may
    oscar = enter("oscar")
    assert [item["subject"] for item in listed(console)] == ["oscar"]
    assert status(oscar, console) == 200


def test_after_a_change_of_the_settings_nobody_is_signed_in(
    shared_api: API, console: API, provider: HostileProvider, enter: Enter
) -> None:
    enter("ada")
    assert len(listed(console)) == 1
    with run_sign_in(shared_api, **settings_of(provider, default_role="viewer")) as other:
        assert listed(other) == []
    assert listed(shared_api) == [], "without [oidc]"


def test_an_ended_session_is_over_at_once_on_every_node_and_another_one_goes_on(
    shared_api: API, console: API, provider: HostileProvider, enter: Enter
) -> None:
    phone, laptop = enter("ada"), enter("ada")
    assert [status(browser, console) for browser in (phone, laptop)] == [200, 200]
    session = listed(console)[1]["id"]
    # The node that has [oidc] and knows the cookie is not the one that ends it.
    assert shared_api.call("DELETE", f"{PATH}/{session}").status == 204
    assert [status(browser, console) for browser in (phone, laptop)] == [401, 200]
    assert_error(console.call("DELETE", f"{PATH}/{session}"), 404, says="may have ended already")
    record = console.call("GET", f"{AUDIT}?action=session.ended&limit=1").json["items"][0]
    assert (record["who"]["name"], record["objects"]) == ("admin", [session])
    assert record["details"] == {"subject": "ada", "name": "oidc:ada"}
    assert record["request"]["route"] == f"{PATH}/{{session_id}}"
    assert sign_in(phone, console, provider).status == 303, "who may, can sign in again"


def test_all_sessions_of_a_person_are_ended_each_with_a_record_and_nobody_elses(console: API, enter: Enter) -> None:
    mine, others = [enter("rosa"), enter("rosa")], [enter("oscar"), enter("rosa-2")]
    ids = {item["id"] for item in listed(console, "?subject=rosa")}
    assert console.call("DELETE", f"{PATH}?subject=rosa").json == {"ended": 2}
    assert console.call("DELETE", f"{PATH}?subject=rosa").json == {"ended": 0}
    assert [status(browser, console) for browser in (*mine, *others)] == [401, 401, 200, 200]
    records = console.call("GET", f"{AUDIT}?action=session.ended&limit=2").json["items"]
    assert {record["objects"][0] for record in records} == ids
    assert_validation(console.call("DELETE", PATH), "query", "subject")
    assert_validation(console.call("DELETE", f"{PATH}?subject="), "query", "subject")
    assert len(listed(console)) == 2, "a request that names nobody ends nothing"


def test_sessions_that_do_not_count_now_are_ended_too_because_they_might_count_again(
    shared_api: API, console: API, provider: HostileProvider, enter: Enter
) -> None:
    browser = enter("vera")
    with run_sign_in(shared_api, **settings_of(provider, default_role="viewer")) as other:
        assert listed(other, "?subject=vera") == []
        assert other.call("DELETE", f"{PATH}?subject=vera").json == {"ended": 1}
    assert status(browser, console) == 401, "with the settings from before"


def test_a_person_ends_all_his_own_sessions_and_nobody_elses(console: API, enter: Enter) -> None:
    lost, own, other = enter("ada"), enter("ada"), enter("oscar")
    path = f"{console.url}/auth/logout?everywhere=true"
    assert own.request("POST", path, headers={"Origin": "https://evil.example"}).status == 403
    assert own.request("POST", f"{path}x", headers={"Origin": console.url}).status == 422
    assert [status(browser, console) for browser in (lost, own, other)] == [200, 200, 200]
    assert own.request("POST", path, headers={"Origin": console.url}).status == 204
    assert "certorbit-session" not in own.cookies
    assert [status(browser, console) for browser in (lost, own, other)] == [401, 401, 200]
    records = console.call("GET", f"{AUDIT}?action=session.ended&limit=2").json["items"]
    assert {record["who"]["name"] for record in records} == {"oidc:ada"}


def test_who_signs_out_of_one_browser_stays_in_the_other(console: API, enter: Enter) -> None:
    one, other = enter("ada"), enter("ada")
    assert one.request("POST", f"{console.url}/auth/logout", headers={"Origin": console.url}).status == 204
    assert [status(browser, console) for browser in (one, other)] == [401, 200]


def test_people_see_and_end_sessions_only_as_administrators(console: API, enter: Enter) -> None:
    oscar, ada = enter("oscar"), enter("ada", group="platform-admins")
    assert oscar.get(f"{console.url}{PATH}").status == 403
    sent = {"Origin": console.url}
    assert oscar.request("DELETE", f"{console.url}{PATH}?subject=ada", headers=sent).status == 403
    assert ada.request("DELETE", f"{console.url}{PATH}?subject=oscar", headers={}).status == 403, "no Origin"
    assert ada.request("DELETE", f"{console.url}{PATH}?subject=oscar", headers=sent).json == {"ended": 1}
    assert [status(browser, console) for browser in (oscar, ada)] == [401, 200]


def test_where_somebody_signed_in_is_found_behind_many_other_sign_ins(console: API, enter: Enter) -> None:
    """The records of sign-ins are read by pages of 500."""
    enter("ada")
    records = [f"gone-{number}" for number in range(501)]

    def fill(tx: Any) -> None:
        now = console.clock.now()
        for name in records:
            tx.audit.add(AuditEvent(action=Action.SESSION_STARTED, objects=(name,)), now=now)

    write(console, fill)
    assert [item["address"] for item in listed(console)] == ["127.0.0.1"]


def run(api: API, *arguments: str, code: int = 0) -> str:
    environment = {"CERTORBIT_URL": api.url, "CERTORBIT_API_KEY": SECRETS["admin"], "COLUMNS": "300"}
    with captured_logs():
        result: Result = CliRunner().invoke(app, ["sessions", *arguments], env=environment)
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_lists_and_ends_sessions(console: API, enter: Enter) -> None:
    ada, oscar, vera = enter("ada"), enter("oscar"), enter("vera")
    head, *lines = run(console, "list").splitlines()
    assert head.split() == ["ID", "SUBJECT", "NAME", "ROLE", "FOR", "SINCE", "FROM", "LAST", "SEEN", "ENDS"]
    assert [line.split()[1:5] for line in lines] == [
        [name, f"oidc:{name}", "operator", "all"] for name in ("vera", "oscar", "ada")
    ]
    assert '"subject": "oscar"' in run(console, "list", "--subject", "oscar", "--json")
    assert run(console, "end", "--subject", "oscar") == "Ended: 1, at once and everywhere.\n"
    assert run(console, "end", lines[0].split()[0]) == "Ended, at once and everywhere.\n"
    assert [status(browser, console) for browser in (ada, oscar, vera)] == [200, 401, 401]
    assert "There is no session 'unknown'" in run(console, "end", "unknown", code=1)
    for wrong in ((), ("a", "--subject", "b")):
        assert "Give the ID of one session, or --subject" in run(console, "end", *wrong, code=1)
