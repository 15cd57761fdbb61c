"""What becomes of sign-ins and sessions when the provider is broken, away, or other than it was."""

import json
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from api.hostile_provider import (
    CLIENT_ID,
    EC,
    OTHER_RSA,
    RSA,
    HostileProvider,
    settings_of,
    sign,
    sign_in,
)
from api.server import API
from api.signing_in import Browser, query_of, run_sign_in
from certorbit.oidc import metadata

CERTS = "/api/v4.3/conf/prod/certificates"


METADATA = [
    ({"issuer": "https://evil.example"}, "another issuer"),
    ({"token_endpoint": "http://evil.example/token"}, "no usable token_endpoint"),
    ({"jwks_uri": "file:///etc/passwd"}, "no usable jwks_uri"),
    ({"authorization_endpoint": "javascript:alert(1)"}, "no usable authorization_endpoint"),
    ({"authorization_endpoint": ["a"]}, "no usable authorization_endpoint"),
]


@pytest.mark.parametrize(("changes", "says"), METADATA)
def test_metadata_that_cannot_be_believed_are_not_used(
    console: API, provider: HostileProvider, changes: dict[str, Any], says: str
) -> None:
    provider.metadata_changes = changes
    answer = Browser().get(f"{console.url}/auth/login")
    assert (answer.status, says in answer.json["message"]) == (503, True)


CONFIGURATION = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, b"", "its metadata answered 500"),
        (302, b"http://127.0.0.1:9/", "its metadata answered 302"),
        (200, b"no JSON", "another issuer"),
        (200, b"[]", "another issuer"),
        (200, b" " * 300_000, "more than 262144 bytes"),
    ],
)
def test_a_broken_provider_is_a_clear_503(
    console: API, provider: HostileProvider, status: int, body: bytes, says: str
) -> None:
    provider.answers[CONFIGURATION] = (status, body)
    answer = Browser().get(f"{console.url}/auth/login")
    assert (answer.status, says in answer.json["message"]) == (503, True), answer.body
    assert console.call("GET", CERTS).status == 200  # API keys go on


def test_a_provider_that_is_down_is_asked_again_only_after_a_moment(console: API, provider: HostileProvider) -> None:
    provider.answers[CONFIGURATION] = (500, b"")
    for _ in range(3):
        assert Browser().get(f"{console.url}/auth/login").status == 503
    assert provider.asked == [CONFIGURATION]
    del provider.answers[CONFIGURATION]
    console.clock.advance(metadata.RETRY_AFTER.total_seconds())
    assert Browser().get(f"{console.url}/auth/login").status == 303


def test_a_provider_that_does_not_answer_is_given_up(shared_api: API, provider: HostileProvider) -> None:
    provider.hold = Event()
    with run_sign_in(shared_api, **settings_of(provider, timeout_seconds=0.2)) as console:
        answer = Browser().get(f"{console.url}/auth/login")
        provider.hold.set()
    assert answer.status == 503
    assert "no answer within 0.2 s" in answer.json["message"]


def test_known_metadata_and_keys_go_on_while_the_provider_fails(console: API, provider: HostileProvider) -> None:
    assert sign_in(Browser(), console, provider).status == 303
    provider.answers |= {CONFIGURATION: (500, b""), "/keys": (500, b"")}
    console.clock.advance(hours=2)
    assert sign_in(Browser(), console, provider).status == 303
    console.clock.advance(hours=23)
    assert Browser().get(f"{console.url}/auth/login").status == 503


def test_unknown_key_ids_are_looked_up_at_a_bounded_rate(console: API, provider: HostileProvider) -> None:
    assert sign_in(Browser(), console, provider).status == 303
    provider.token = lambda claims: sign(claims, kid="new")
    console.clock.advance(metadata.KEYS_EVERY.total_seconds())
    for _ in range(3):
        assert sign_in(Browser(), console, provider).status == 403
    assert provider.asked.count("/keys") == 2
    provider.keys = [{**RSA.as_dict(private=False), "kid": "new"}]
    console.clock.advance(metadata.KEYS_EVERY.total_seconds())
    assert sign_in(Browser(), console, provider).status == 303


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((200, json.dumps({"keys": [RSA.as_dict(private=False)] * 5000}).encode()), 503),
        ((200, b'{"keys": 5}'), 403),
        ((200, b'{"keys": [5, null, {"kty": []}, {"kty": "RSA"}, {"kty": "RSA", "n": 5, "e": {}}]}'), 403),
        ((200, json.dumps({"keys": [{"kty": "RSA", "kid": "rsa", "n": "AQAB" * 20, "e": "AQAB"}]}).encode()), 403),
        ((200, json.dumps({"keys": [{"kty": "RSA", "kid": "rsa", "n": "_" * 60_000, "e": "AQAB"}]}).encode()), 403),
        ((200, json.dumps({"keys": [{**RSA.as_dict(private=False), "use": "enc"}]}).encode()), 403),
        ((200, json.dumps({"keys": [{**RSA.as_dict(private=False), "alg": "ES256"}]}).encode()), 403),
        ((200, json.dumps({"keys": [{"kty": "oct", "kid": "rsa", "k": "AAAA"}]}).encode()), 403),
        ((200, json.dumps({"keys": [RSA.as_dict(private=False), OTHER_RSA.as_dict(private=False)]}).encode()), 403),
        ((404, b""), 503),
    ],
    ids=[
        "huge",
        "number",
        "junk",
        "weak",
        "long",
        "for encryption",
        "other algorithm",
        "secret",
        "two of one id",
        "none",
    ],
)
def test_keys_that_are_of_no_use_sign_nobody_in(
    console: API, provider: HostileProvider, answer: tuple[int, bytes], status: int
) -> None:
    provider.answers["/keys"] = answer
    got = sign_in(Browser(), console, provider)
    assert got.status == status, got.body


def test_a_private_key_that_somebody_published_is_read_as_a_public_one(console: API, provider: HostileProvider) -> None:
    provider.keys = [EC.as_dict(private=True)]
    provider.token = lambda claims: sign(claims, algorithm="ES256")
    assert sign_in(Browser(), console, provider).status == 303


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        ((400, b'{"error": "invalid_grant"}'), 400, "doesn't take this sign-in"),
        ((401, b'{"error": "invalid_client"}'), 503, "doesn't take this service's client_id or client_secret"),
        ((500, b"<html>"), 503, "answered 500"),
        ((307, b"http://127.0.0.1:9/token"), 503, "answered 307"),
        ((200, b"{}"), 403, "ID token is missing"),
        ((200, b'{"id_token": 5}'), 403, "ID token is missing"),
        ((200, b"x" * 300_000), 503, "more than 262144 bytes"),
    ],
)
def test_what_the_token_endpoint_says_is_told_apart(
    lasting: API, provider: HostileProvider, answer: tuple[int, bytes], status: int, says: str
) -> None:
    provider.answers["/token"] = answer
    browser = Browser()
    got = sign_in(browser, lasting, provider)
    assert (got.status, says in got.json["message"]) == (status, True), got.body
    assert browser.cookies == {}


@pytest.mark.parametrize(("subject", "status"), [("u-1", 303), ("u-2", 403)])
def test_groups_may_come_from_the_userinfo_endpoint_of_the_same_person(
    lasting: API, provider: HostileProvider, subject: str, status: int
) -> None:
    provider.changes = {"groups": None}
    more = {
        "sub": subject,
        "groups": ["sre"],
        "iss": "https://evil.example",
        "email": "a@b.test",
        "email_verified": True,
    }
    provider.answers["/userinfo"] = (200, json.dumps(more).encode())
    browser = Browser()
    assert sign_in(browser, lasting, provider).status == status
    if status == 303:
        me = browser.get("/auth/me").json
        assert (me["role"], me["name"]) == ("operator", "oidc:a@b.test")


@pytest.mark.parametrize(
    ("own", "more"),
    [
        ({"email": "boss@b.test"}, {"email": "a@b.test", "email_verified": True}),
        ({"email_verified": True}, {"email": "boss@b.test"}),
        ({"email_verified": True}, {"email": "boss@b.test", "email_verified": False}),
    ],
)
def test_an_address_is_not_verified_by_what_is_said_of_another_one(
    lasting: API, provider: HostileProvider, own: dict[str, Any], more: dict[str, Any]
) -> None:
    provider.changes = {"groups": None, **own}
    provider.answers["/userinfo"] = (200, json.dumps({"sub": "u-1", "groups": ["sre"], **more}).encode())
    browser = Browser()
    assert sign_in(browser, lasting, provider).status == 303
    assert browser.get("/auth/me").json["name"] == "oidc:u-1"


def test_a_provider_that_wants_the_secret_in_the_form_gets_it_there(console: API, provider: HostileProvider) -> None:
    provider.metadata_changes = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert sign_in(Browser(), console, provider).status == 303
    assert (provider.forms[0]["client_id"], provider.forms[0]["client_secret"]) == (CLIENT_ID, "s")
    assert "Authorization" not in provider.headers[0]


def test_a_session_ends_after_its_lifetime_and_when_nothing_is_done(lasting: API, provider: HostileProvider) -> None:
    busy, idle = Browser(), Browser()
    for browser in (busy, idle):
        assert sign_in(browser, lasting, provider).status == 303
    for _ in range(15):
        lasting.clock.advance(minutes=31)
        assert busy.get("/auth/me").status == 200
    assert idle.get("/auth/me").status == 401
    lasting.clock.advance(minutes=16)
    assert busy.get("/auth/me").status == 401


def test_sessions_end_when_the_rules_change(shared_api: API, provider: HostileProvider) -> None:
    browser = Browser()
    with run_sign_in(shared_api, **settings_of(provider)) as console:
        assert sign_in(browser, console, provider).status == 303
    with run_sign_in(shared_api, **settings_of(provider)) as console:
        assert browser.get(f"{console.url}/auth/me").status == 200
    with run_sign_in(shared_api, **settings_of(provider, roles={"staff": "viewer"})) as console:
        assert browser.get(f"{console.url}/auth/me").status == 401


def test_unknown_sessions_are_slowed_down_and_known_ones_are_not(shared_api: API, provider: HostileProvider) -> None:
    browser = Browser()
    access = shared_api.parts.settings.access.model_copy(update={"failures_per_minute": 3})
    settings = shared_api.parts.settings.model_copy(update={"access": access})
    api = replace(shared_api, parts=replace(shared_api.parts, settings=settings))
    with run_sign_in(api, **settings_of(provider)) as console:
        assert sign_in(browser, console, provider).status == 303
        assert browser.get("/auth/me").status == 200
        guesses = [Browser({"certorbit-session": f"guess-{n}"}).get(f"{console.url}/auth/me") for n in range(5)]
        assert [answer.status for answer in guesses] == [401, 401, 401, 429, 429]
        assert guesses[-1].headers["retry-after"] == "20"
        assert browser.get("/auth/me").status == 200


def test_failed_sign_ins_are_slowed_down(console: API, provider: HostileProvider) -> None:
    provider.answers["/token"] = (400, b'{"error": "invalid_grant"}')
    statuses = [sign_in(Browser(), console, provider).status for _ in range(32)]
    assert statuses == [400] * 30 + [429] * 2
    assert len(provider.forms) == 30


def test_with_a_path_in_front_the_callback_has_it_and_so_has_where_one_gets_to(
    shared_api: API, provider: HostileProvider
) -> None:
    with run_sign_in(shared_api, public_path="/certs", **settings_of(provider)) as console:
        browser = Browser()
        asked = query_of(browser.get(f"{console.url}/auth/login").headers["location"])
        assert asked["redirect_uri"] == f"{console.url}/certs/auth/callback"
        provider.nonce = asked["nonce"]
        answer = browser.get(f"{console.url}/auth/callback?code=abc&state={asked['state']}")
        assert answer.headers["location"] == "/certs/docs"
