"""Sign-ins by a provider that is hostile, broken or away, and by browsers that try things."""

import base64
import hmac
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization

from api.hostile_provider import (
    CLIENT_ID,
    OTHER_RSA,
    RSA,
    HostileProvider,
    begin,
    challenge_of,
    part,
    settings_of,
    sign,
    sign_in,
)
from api.server import API
from api.signing_in import Browser, run_sign_in
from certorbit.api.known_sessions import Cookies, origin_of


def unsigned(claims: dict[str, Any]) -> str:
    return f"{part({'alg': 'none'})}.{part(claims)}."


def hmac_with_the_public_key(claims: dict[str, Any]) -> str:
    public = RSA.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{part(claims)}"
    signature = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).rstrip(b"=").decode()
    return f"{signed}.{signature}"


def brings_its_own_key(claims: dict[str, Any]) -> str:
    return sign(claims, key=OTHER_RSA, jwk=OTHER_RSA.as_dict(private=False), jku="http://127.0.0.1:9/keys")


def with_another_payload(claims: dict[str, Any]) -> str:
    head, _, signature = sign(claims).split(".")
    return f"{head}.{part({**claims, 'sub': 'somebody-else'})}.{signature}"


TOKENS = [
    pytest.param(unsigned, "is signed with none of", id="alg none"),
    pytest.param(lambda c: f"{part({'alg': 'nOnE'})}.{part(c)}.", "is signed with none of", id="alg nOnE"),
    pytest.param(hmac_with_the_public_key, "is signed with none of", id="HMAC with the public key"),
    pytest.param(lambda c: sign(c, key=OTHER_RSA), "has a signature that is not", id="another key of the same id"),
    pytest.param(brings_its_own_key, "has a signature that is not", id="brings its own key"),
    pytest.param(lambda c: sign(c, kid="unknown"), "doesn't publish", id="an unknown key id"),
    pytest.param(lambda c: sign(c, kid="../../etc/passwd"), "doesn't publish", id="a path as key id"),
    pytest.param(lambda c: sign(c, kid="' OR '1'='1"), "doesn't publish", id="SQL as key id"),
    pytest.param(lambda c: sign(c, kid="ec"), "doesn't publish", id="the id of a key of another kind"),
    pytest.param(lambda c: f"{part({'alg': 'RS256', 'kid': 7})}.{part(c)}.AA", "is no text", id="a number as key id"),
    pytest.param(with_another_payload, "has a signature that is not", id="another payload"),
    pytest.param(lambda c: f"{part({'alg': 'RS256', 'crit': ['b']})}.{part(c)}.AA", "not", id="an unknown crit"),
    pytest.param(lambda _: "a.b", "is no signed token", id="no token"),
    pytest.param(lambda _: "..", "is no signed token", id="empty parts"),
    pytest.param(lambda _: "é" * 9, "is too long", id="not ASCII"),
    pytest.param(lambda c: sign({**c, "x": "y" * 70_000}), "is too long", id="huge"),
]
CLAIMS = [
    ({"iss": "https://evil.example"}, "(iss)"),
    ({"iss": None}, "(iss)"),
    ({"aud": "another"}, "(aud)"),
    ({"aud": ["another"]}, "(aud)"),
    ({"aud": {"certorbit": 1}}, "(aud)"),
    ({"aud": [CLIENT_ID, "another"]}, "(azp)"),
    ({"aud": [CLIENT_ID, "another"], "azp": "another"}, "(azp)"),
    ({"azp": "another"}, "(azp)"),
    ({"exp": None}, "(exp, iat, nbf)"),
    ({"exp": "9999999999"}, "(exp, iat, nbf)"),
    ({"exp": True}, "(exp, iat, nbf)"),
    ({"exp": 1e300}, "(exp, iat, nbf)"),
    ({"iat": None}, "(exp, iat, nbf)"),
    ({"exp": -60}, "(exp)"),
    ({"iat": 61}, "(iat, nbf)"),
    ({"nbf": 61}, "(iat, nbf)"),
    ({"nonce": "another"}, "(nonce)"),
    ({"nonce": None}, "(nonce)"),
    ({"nonce": 5}, "(nonce)"),
    ({"at_hash": "AAAA"}, "(at_hash)"),
    ({"sub": None}, "`sub`"),
    ({"sub": " "}, "`sub`"),
    ({"sub": "a\nb"}, "`sub`"),
    ({"sub": "x" * 256}, "`sub`"),
    ({"groups": None}, "gives you a role"),
    ({"groups": ["Platform-Admins"]}, "gives you a role"),
    ({"groups": "platform-admins,sre"}, "gives you a role"),
    ({"groups": {"platform-admins": True}}, "gives you a role"),
    ({"groups": [["platform-admins"], 7, None]}, "gives you a role"),
]


@pytest.mark.parametrize(("token", "says"), TOKENS)
def test_a_forged_token_signs_nobody_in(lasting: API, provider: HostileProvider, token: Any, says: str) -> None:
    provider.token = token
    assert_refused(lasting, provider, says=says)


def test_claims_that_are_not_for_this_sign_in_sign_nobody_in(lasting: API, provider: HostileProvider) -> None:
    now = int(lasting.clock.now().timestamp())
    for changes, says in CLAIMS:
        provider.changes = {
            name: now + value if name in {"exp", "iat", "nbf"} and type(value) is int else value
            for name, value in changes.items()
        }
        assert_refused(lasting, provider, says=says)


def assert_refused(console: API, provider: HostileProvider, *, says: str) -> None:
    browser = Browser()
    answer = sign_in(browser, console, provider)
    assert answer.status == 403, (provider.changes, answer.body)
    assert says in answer.json["message"]
    assert set(browser.cookies) == set()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "Ed25519"])
def test_what_the_stand_in_signs_well_is_taken(lasting: API, provider: HostileProvider, algorithm: str) -> None:
    provider.token = lambda claims: sign(claims, algorithm=algorithm)
    provider.changes = {"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID, "iat": None}
    provider.changes["iat"] = int(lasting.clock.now().timestamp()) + 59
    browser = Browser()
    assert sign_in(browser, lasting, provider).status == 303
    assert browser.get("/auth/me").json["name"] == "oidc:u-1"


def test_an_algorithm_that_the_settings_leave_out_is_not_taken(shared_api: API, provider: HostileProvider) -> None:
    with run_sign_in(shared_api, **settings_of(provider, algorithms=("ES256",))) as console:
        assert_refused(console, provider, says="is signed with none of ES256")


def test_the_code_is_redeemed_with_the_verifier_of_the_challenge(lasting: API, provider: HostileProvider) -> None:
    browser = Browser()
    asked = begin(browser, lasting, provider)
    assert asked["tenant"] == "1"  # what the endpoint's URL had already
    browser.get(f"{lasting.url}/auth/callback?code=abc&state={asked['state']}")
    (form,) = provider.forms
    assert challenge_of(form.pop("code_verifier")) == asked["code_challenge"]
    assert form == {
        "grant_type": "authorization_code",
        "code": "abc",
        "redirect_uri": f"{lasting.url}/auth/callback",
    }
    assert provider.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"certorbit:s").decode()


def test_a_provider_that_takes_codes_twice_gives_one_session(lasting: API, provider: HostileProvider) -> None:
    browser = Browser()
    asked = begin(browser, lasting, provider)
    kept, path = dict(browser.cookies), f"{lasting.url}/auth/callback?code=abc&state={asked['state']}"
    assert browser.get(path).status == 303
    again = Browser(kept)
    answer = again.get(path)
    assert (answer.status, answer.json["message"]) == (
        400,
        "This sign-in was used already; begin again at /auth/login.",
    )
    assert "certorbit-session" not in again.cookies


@pytest.mark.parametrize(
    "goes_to",
    ["//evil.example", "https://evil.example", "/\\evil.example", "\\/evil", "/%09/evil.example%0d%0aX: y", "javascript:alert(1)", "docs", "", "/a b", "/" + "a" * 600, "/%0a", "///evil.example", "/é"],
)  # fmt: skip
def test_next_leads_nowhere_else(lasting: API, provider: HostileProvider, goes_to: str) -> None:
    answer = Browser().get(f"{lasting.url}/auth/login?next={quote(goes_to, safe='%')}")
    assert (answer.status, "set-cookie" in answer.headers) == (400, False)
    assert answer.json["message"].startswith("next: ")


def test_next_in_the_cookie_cannot_be_changed(lasting: API, provider: HostileProvider) -> None:
    browser = Browser()
    asked = begin(browser, lasting, provider, query="?next=/auth/me")
    secret, begun, _ = browser.cookies["certorbit-sign-in"].split(".")
    for path in (b"/docs", b"//evil.example"):
        text = base64.urlsafe_b64encode(path).rstrip(b"=").decode()
        changed = Browser({"certorbit-sign-in": f"{secret}.{begun}.{text}"})
        answer = changed.get(f"{lasting.url}/auth/callback?code=abc&state={asked['state']}")
        assert answer.status == 400


@pytest.mark.parametrize(
    "cookie", ["", "a", "a.b.c", "A" * 43 + ".99999999999.L2Rv", "A" * 43 + ".0.L2Rv", "!" * 50, "A" * 43 + ".1.="]
)
def test_a_cookie_that_is_none_of_ours_is_no_sign_in(lasting: API, provider: HostileProvider, cookie: str) -> None:
    answer = Browser({"certorbit-sign-in": cookie}).get(f"{lasting.url}/auth/callback?code=a&state=b")
    assert (answer.status, answer.json["message"][:22]) == (400, "No sign-in was begun i")


@pytest.mark.parametrize(
    "query", ["", "code=a", "state=", "code=a&code=b", "state=a&state=b", "%ff=1", "&" * 50, "a=" + "b" * 20_000]
)
def test_a_malformed_answer_is_refused(lasting: API, provider: HostileProvider, query: str) -> None:
    browser = Browser()
    begin(browser, lasting, provider)
    assert browser.get(f"{lasting.url}/auth/callback?{query}").status == 400
    assert provider.forms == []


@pytest.mark.parametrize("code", ["", "&code=", f"&code={'a' * 5000}", "&code=%00", "&code=%C3%A9"])
def test_a_code_that_is_none_is_not_sent_on(lasting: API, provider: HostileProvider, code: str) -> None:
    browser = Browser()
    asked = begin(browser, lasting, provider)
    assert browser.get(f"{lasting.url}/auth/callback?state={asked['state']}{code}").status == 400
    assert provider.forms == []


def test_the_answer_of_another_provider_is_not_redeemed_here(console: API, provider: HostileProvider) -> None:
    assert sign_in(Browser(), console, provider, more="&iss=https://evil.example").status == 400
    assert provider.forms == []
    assert sign_in(Browser(), console, provider, more=f"&iss={provider.url}").status == 303


def test_a_provider_that_promises_to_name_itself_must(console: API, provider: HostileProvider) -> None:
    provider.metadata_changes = {"authorization_response_iss_parameter_supported": True}
    assert sign_in(Browser(), console, provider).status == 400
    assert provider.forms == []


def test_what_a_provider_says_of_a_failure_is_not_repeated(lasting: API, provider: HostileProvider) -> None:
    for word, says in (("access_denied", "it was declined"), ("<script>", "not known here")):
        browser = Browser()
        asked = begin(browser, lasting, provider)
        text = "%3Cb%3Eyou+won%3C/b%3E"
        answer = browser.get(
            f"{lasting.url}/auth/callback?error={word}&error_description={text}&state={asked['state']}"
        )
        assert (answer.status, "<" in answer.body.decode()) == (403, False)
        assert says in answer.json["message"]


def test_a_sign_in_has_ten_minutes(lasting: API, provider: HostileProvider) -> None:
    browser = Browser()
    asked = begin(browser, lasting, provider)
    lasting.clock.advance(minutes=10, seconds=1)
    answer = browser.get(f"{lasting.url}/auth/callback?code=abc&state={asked['state']}")
    assert answer.json["message"].startswith("No sign-in was begun")


def test_over_https_no_other_host_can_set_or_see_the_cookies() -> None:
    cookies = Cookies(origin_of("https://Certs.Example.org:443/certs"))
    assert cookies.origin == "https://certs.example.org"
    assert (cookies.session, cookies.sign_in) == ("__Host-certorbit-session", "__Host-certorbit-sign-in")
    assert cookies.set(cookies.session, "x", seconds=5) == (
        "__Host-certorbit-session=x; Path=/; Max-Age=5; HttpOnly; SameSite=Lax; Secure"
    )
    assert cookies.read([(b"cookie", b"certorbit-session=a; __Host-certorbit-session=b")], cookies.session) == "b"
    assert cookies.read([(b"cookie", b"a=b"), (b"cookie", b"c")], cookies.session) is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:80/x", "http://127.0.0.1"),
        ("https://h:80", "https://h:80"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_origins_are_written_as_browsers_write_them(url: str, origin: str) -> None:
    assert origin_of(url) == origin
