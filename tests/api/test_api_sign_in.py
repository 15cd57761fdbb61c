"""People sign in by a real provider (Django OAuth Toolkit), with a browser that is a plain HTTP client."""

from collections.abc import Iterator

import pytest

from api.oidc_provider_app import CLIENT_ID, CLIENT_SECRET
from api.server import API
from api.signing_in import Browser, go_to_provider, query_of, run_provider, run_sign_in, sign_in
from certorbit.clock import SystemClock

NATIVE = "/api/certorbit/v1"
CERTS = "/api/v4.3/conf/prod/certificates"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_provider(tmp_path_factory.mktemp("provider")) as url:
        yield url


@pytest.fixture(scope="module")
def console(shared_api: API, provider: str) -> Iterator[API]:
    """The API with that provider, and the client registered there."""
    with run_sign_in(
        shared_api,
        clock=SystemClock(),
        issuer=f"{provider}/o",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        export_keys=("key-keepers",),
        configurations={"platform-admins": ("*",), "sre": ("prod",), "staff": ("elsewhere",)},
    ) as api:
        answer = Browser().get(f"{provider}/tests/register?redirect_uri={api.url}/auth/callback")
        assert answer.status == 200
        yield api


def from_our_page(api: API) -> dict[str, str]:
    return {"Origin": api.url}


def test_an_administrator_signs_in_and_is_one(console: API) -> None:
    browser = Browser()
    answer = sign_in(browser, console, "ada", path="/auth/login?next=/auth/me")
    assert (answer.status, answer.headers["location"]) == (303, "/auth/me")
    me = browser.follow(answer)
    assert me.json == {
        "kind": "person",
        "name": "oidc:ada@example.test",
        "role": "admin",
        "rights": ["read-certificates", "read", "write", "administer", "audit"],
        "configurations": [],
        "expires_at": me.json["expires_at"],
    }
    assert browser.get(f"{NATIVE}/api-keys").status == 200


def test_the_cookies_are_for_this_service_alone_and_not_for_scripts(console: API) -> None:
    browser = Browser()
    sign_in(browser, console, "ada")
    lifetime = 8 * 3600
    assert browser.attributes["certorbit-session"] == f"Path=/; Max-Age={lifetime}; HttpOnly; SameSite=Lax"
    assert browser.attributes["certorbit-sign-in"] == "Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    assert "certorbit-sign-in" not in browser.cookies


def test_the_provider_is_asked_with_state_nonce_and_pkce(console: API) -> None:
    asked = query_of(Browser().get(f"{console.url}/auth/login").headers["location"])
    assert asked.pop("redirect_uri") == f"{console.url}/auth/callback"
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked.pop(name)) == 43
    assert asked == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "scope": "openid profile email",
        "code_challenge_method": "S256",
    }


def test_an_operator_reaches_what_his_groups_give_and_no_keys(console: API) -> None:
    browser = Browser()
    sign_in(browser, console, "oscar")
    me = browser.get("/auth/me").json
    assert (me["name"], me["role"], me["configurations"]) == ("oidc:oscar@example.test", "operator", ["prod"])
    assert browser.get(CERTS).status == 200
    refused = browser.get("/api/v4.3/conf/elsewhere/certificates")
    assert refused.status == 403
    assert refused.json["message"] == (
        "Your sign-in 'oidc:oscar@example.test' is not for the configuration 'elsewhere', only for prod. Ask an"
        " administrator."
    )
    assert browser.get(f"{CERTS}/placeholder/pem").status == 403
    assert browser.get(f"{NATIVE}/api-keys").status == 403


def test_keys_are_exported_only_by_those_whose_group_is_named_for_it(console: API) -> None:
    for person, status in (("ada", 403), ("ines", 200)):
        browser = Browser()
        sign_in(browser, console, person)
        assert browser.get(f"{CERTS}/placeholder/pem").status == status


def test_whom_nothing_gives_a_role_does_not_get_in(console: API) -> None:
    browser = Browser()
    answer = sign_in(browser, console, "nobody")
    assert answer.status == 403
    assert "nothing in its claim 'groups' gives you a role" in answer.json["message"]
    assert "certorbit-session" not in browser.cookies


def test_a_change_is_recorded_as_the_persons_doing(console: API) -> None:
    browser = Browser()
    sign_in(browser, console, "oscar")
    made = browser.request(
        "POST",
        "/api/v4.3/conf/prod/server-groups/by-oscar",
        document={"name": "by-oscar"},
        headers=from_our_page(console),
    )
    assert made.status == 201, made.body
    records = console.call("GET", f"{NATIVE}/audit?limit=20&who=oidc:oscar@example.test").json["items"]
    started = next(record for record in records if record["action"] == "session.started")
    assert started["who"] == {
        "kind": "person",
        "name": "oidc:oscar@example.test",
        "key_id": started["objects"][0],
        "role": "operator",
    }
    assert started["request"]["route"] == "/auth/callback"
    assert started["details"]["email"] == "oscar@example.test"
    created = next(record for record in records if record["action"] == "server-group.created")
    assert created["who"] == started["who"]
    versions = console.call("GET", "/api/v4.3/conf/configs/prod/versions").json["items"]
    assert versions[0]["by"] == "oidc:oscar@example.test"


def test_what_a_person_may_not_is_recorded_as_refused(console: API) -> None:
    browser = Browser()
    sign_in(browser, console, "vera")
    path = "/api/v4.3/conf/elsewhere/server-groups/by-vera"
    assert browser.request("POST", path, document={"name": "by-vera"}, headers=from_our_page(console)).status == 403
    record = console.call("GET", f"{NATIVE}/audit?limit=1&action=request.refused").json["items"][0]
    assert (record["who"]["kind"], record["who"]["name"]) == ("person", "oidc:vera@example.test")


def test_signing_out_ends_the_session_everywhere(console: API) -> None:
    browser = Browser()
    sign_in(browser, console, "ada")
    copied = Browser(dict(browser.cookies), url=console.url)
    answer = browser.request("POST", "/auth/logout", headers=from_our_page(console))
    assert answer.status == 204
    assert "certorbit-session" not in browser.cookies
    assert copied.get("/auth/me").status == 401
    assert copied.get(CERTS).status == 401
    last = console.call("GET", f"{NATIVE}/audit?limit=1&action=session.ended").json["items"][0]
    assert last["who"]["name"] == "oidc:ada@example.test"


def test_a_code_and_its_state_are_of_use_once(console: API) -> None:
    browser = Browser()
    callback = go_to_provider(browser, console, "ada")
    before = dict(browser.cookies)
    assert browser.follow(callback).status == 303
    # The same browser again, and one that kept the cookie.
    assert Browser(dict(browser.cookies)).follow(callback).json["message"].startswith("No sign-in was begun")
    again = Browser(before).follow(callback)
    assert again.status == 400
    assert again.json["message"].startswith("The identity provider doesn't take this sign-in (any more)")


def test_a_code_of_another_browsers_sign_in_is_not_taken(console: API) -> None:
    victim, thief = Browser(), Browser()
    callback = go_to_provider(victim, console, "ada")
    stolen = query_of(callback.headers["location"])["code"]
    own = query_of(thief.get(f"{console.url}/auth/login").headers["location"])
    answer = thief.get(f"{console.url}/auth/callback?code={stolen}&state={own['state']}")
    assert answer.status == 400  # the provider: the verifier is not that of the code's challenge
    assert "certorbit-session" not in thief.cookies


def test_the_state_of_another_browser_is_not_taken(console: API) -> None:
    attacker, victim = Browser(), Browser()
    callback = go_to_provider(attacker, console, "ada")
    assert victim.follow(callback).json["message"].startswith("No sign-in was begun in this browser")
    victim.get(f"{console.url}/auth/login")
    answer = victim.follow(callback)
    assert (answer.status, "another sign-in" in answer.json["message"]) == (400, True)
    assert "certorbit-sign-in" in victim.cookies  # the own one can still be ended


def test_a_session_id_that_was_there_before_is_worth_nothing(console: API) -> None:
    browser = Browser({"certorbit-session": "A" * 43})
    sign_in(browser, console, "ada")
    assert browser.cookies["certorbit-session"] != "A" * 43
    assert Browser({"certorbit-session": "A" * 43}).get(f"{console.url}/auth/me").status == 401


def test_signing_in_again_ends_the_session_before(console: API) -> None:
    browser = Browser()
    sign_in(browser, console, "ada")
    first = Browser(dict(browser.cookies))
    sign_in(browser, console, "ada")
    assert first.get(f"{console.url}/auth/me").status == 401
    assert browser.get(f"{console.url}/auth/me").status == 200


def test_two_people_are_not_mixed_up(console: API) -> None:
    ada, oscar = Browser(), Browser()
    callbacks = [(who, go_to_provider(who, console, name)) for who, name in ((ada, "ada"), (oscar, "oscar"))]
    for who, callback in reversed(callbacks):
        assert who.follow(callback).status == 303
    names = [who.get(f"{console.url}/auth/me").json["name"] for who in (ada, oscar)]
    assert names == ["oidc:ada@example.test", "oidc:oscar@example.test"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Origin": "own"}, 404, id="ok/our own page"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, 404, id="ok/the browser says so"),
        pytest.param({}, 403, id="refused/nobody says where from"),
        pytest.param({"Origin": "https://evil.example"}, 403, id="refused/another site"),
        pytest.param({"Origin": "null"}, 403, id="refused/a sandbox"),
        pytest.param({"Origin": "http://127.0.0.1:1"}, 403, id="refused/another port"),
        pytest.param({"Origin": "own", "Sec-Fetch-Site": "cross-site"}, 403, id="refused/the two disagree"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="refused/another host of the domain"),
        pytest.param({"Sec-Fetch-Site": "none"}, 403, id="refused/a change that nobody's page began"),
        pytest.param(
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            403,
            id="refused/another site's form",
        ),
    ],
)
def test_a_change_counts_only_from_our_own_pages(
    console: API, ada: Browser, headers: dict[str, str], status: int
) -> None:
    sent = {name: console.url if value == "own" else value for name, value in headers.items()}
    assert ada.request("DELETE", f"{console.url}{CERTS}/unknown", headers=sent).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
def test_other_sites_may_link_to_us_but_not_read(
    console: API, ada: Browser, headers: dict[str, str], status: int
) -> None:
    assert ada.get(f"{console.url}{CERTS}", headers=headers).status == status


@pytest.fixture(scope="module")
def ada(console: API) -> Browser:
    browser = Browser()
    sign_in(browser, console, "ada")
    return browser


def test_an_api_key_goes_before_the_cookie_and_needs_no_origin(console: API, ada: Browser) -> None:
    answer = console.call(
        "GET", "/auth/me", key="reader", headers={"Cookie": f"certorbit-session={ada.cookies['certorbit-session']}"}
    )
    assert (answer.json["kind"], answer.json["name"], answer.json["expires_at"]) == ("api-key", "reader", None)
    assert console.call("DELETE", f"{CERTS}/unknown").status == 404
    wrong = {"Authorization": "Bearer co_wrong", "Cookie": f"certorbit-session={ada.cookies['certorbit-session']}"}
    assert console.call("GET", "/auth/me", key=None, headers=wrong).status == 401
    assert console.call("POST", "/auth/logout").json["message"].startswith("An API key has no session")


def test_two_session_cookies_are_none(console: API, ada: Browser) -> None:
    cookie = f"certorbit-session={ada.cookies['certorbit-session']}; certorbit-session=other"
    assert console.call("GET", "/auth/me", key=None, headers={"Cookie": cookie}).status == 401


def test_without_a_session_a_browser_is_not_asked_for_a_password(console: API) -> None:
    answer = console.call("GET", "/auth/me", key=None)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="certorbit"')


def test_in_maintenance_people_can_sign_in_and_out(console: API) -> None:
    browser = Browser()
    headers = {**from_our_page(console), "Content-Type": "application/json"}
    assert console.call("POST", f"{NATIVE}/maintenance", document={"on": True}).status == 200
    try:
        sign_in(browser, console, "ada")
        assert browser.request("DELETE", f"{CERTS}/unknown", headers=headers).status == 403
        assert browser.request("POST", "/auth/logout", headers=headers).status == 204
    finally:
        assert console.call("POST", f"{NATIVE}/maintenance", document={"on": False}).status == 200


def test_no_secret_of_a_sign_in_is_logged_or_stored(console: API, ada: Browser) -> None:
    secret = ada.cookies["certorbit-session"]
    assert secret not in console.log_text.getvalue()
    assert CLIENT_SECRET not in console.log_text.getvalue()
    folder = console.parts.settings.data_dir
    assert secret.encode() not in b"".join(path.read_bytes() for path in folder.glob("api.db*"))


def test_without_oidc_nobody_signs_in(shared_api: API) -> None:
    assert shared_api.call("GET", "/auth/login", key=None).status == 404
    assert shared_api.call("GET", "/auth/callback", key=None).status == 404
    cookie = {"Cookie": "certorbit-session=" + "A" * 43}
    assert shared_api.call("GET", CERTS, key=None, headers=cookie).status == 401
