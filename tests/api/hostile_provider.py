"""Our own stand-in for an identity provider that is hostile or broken: it signs and answers whatever the test says.

What a sound one does is tested against a real one (test_api_sign_in.py).
"""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from api.server import API, Answer
from api.signing_in import Browser, query_of
from fakes.clock import FakeClock

CLIENT_ID = "certorbit"
RSA, OTHER_RSA = RSAKey.generate_key(2048, {"kid": "rsa"}), RSAKey.generate_key(2048, {"kid": "rsa"})
EC, ED = ECKey.generate_key("P-256", {"kid": "ec"}), OKPKey.generate_key("Ed25519", {"kid": "ed"})
KEYS = {"RS256": RSA, "PS256": RSA, "ES256": EC, "Ed25519": ED}
ANY = JWSRegistry(algorithms=["none", "HS256", "RS256", "PS256", "ES256", "Ed25519"], strict_check_header=False)


def sign(claims: dict[str, Any], *, algorithm: str = "RS256", key: Any = None, **header: Any) -> str:
    used = key or KEYS[algorithm]
    return jwt.encode({"alg": algorithm, "kid": used.kid, **header}, claims, used, registry=ANY)


def part(value: object) -> str:
    """Return one part of a compact token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@dataclass
class HostileProvider:
    """metadata, keys, tokens: make the answers; replace them. forms: what came to the token endpoint."""

    clock: FakeClock
    url: str = ""
    nonce: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    token: Callable[[dict[str, Any]], str] = sign
    metadata_changes: dict[str, Any] = field(default_factory=dict)
    keys: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    hold: Event | None = None

    def reset(self) -> None:
        """Be a sound provider again."""
        fresh = HostileProvider(self.clock, url=self.url)
        for name in ("nonce", "changes", "token", "metadata_changes", "keys", "answers", "forms", "headers", "asked"):
            setattr(self, name, getattr(fresh, name))
        self.hold = None

    def claims(self) -> dict[str, Any]:
        now = int(self.clock.now().timestamp())
        good = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": "u-1",
            "exp": now + 300,
            "iat": now,
            "nonce": self.nonce,
            "groups": ["platform-admins"],
        }
        return {name: value for name, value in {**good, **self.changes}.items() if value is not None}

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if path in self.answers:
            return self.answers[path]
        match path:
            case "/.well-known/openid-configuration":
                made: Any = {
                    "issuer": self.url,
                    "authorization_endpoint": f"{self.url}/authorize?tenant=1",
                    "token_endpoint": f"{self.url}/token",
                    "jwks_uri": f"{self.url}/keys",
                    "userinfo_endpoint": f"{self.url}/userinfo",
                    **self.metadata_changes,
                }
            case "/keys":
                made = {"keys": self.keys or [key.as_dict(private=False) for key in (RSA, EC, ED)]}
            case "/token":
                made = {
                    "id_token": self.token(self.claims()),
                    "access_token": "an access token",
                    "token_type": "Bearer",
                }
            case _:
                return 404, b"{}"
        return 200, json.dumps(made).encode()


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@contextmanager
def run_hostile_provider(clock: FakeClock) -> Iterator[HostileProvider]:
    provider = HostileProvider(clock)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if provider.hold is not None:
                provider.hold.wait(20)
            status, body = provider.answer(self.path.partition("?")[0])
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", body.decode())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # who asked has had enough

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            provider.forms.append({name: values[0] for name, values in parse_qs(text).items()})
            provider.headers.append(dict(self.headers))
            self.do_GET()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        if provider.hold is not None:
            provider.hold.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def settings_of(provider: HostileProvider, **more: Any) -> dict[str, Any]:
    return {"issuer": provider.url, "client_id": CLIENT_ID, "client_secret": "s", **more}


def begin(browser: Browser, api: API, provider: HostileProvider, *, query: str = "") -> dict[str, str]:
    """Begin a sign-in; return what the provider is asked, and let it know the nonce."""
    answer = browser.get(f"{api.url}/auth/login{query}")
    assert answer.status == 303, answer.body
    asked = query_of(answer.headers["location"])
    provider.nonce = asked["nonce"]
    return asked


def sign_in(browser: Browser, api: API, provider: HostileProvider, *, query: str = "", more: str = "") -> Answer:
    asked = begin(browser, api, provider, query=query)
    return browser.get(f"{api.url}/auth/callback?code=abc&state={asked['state']}{more}")
