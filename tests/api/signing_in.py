"""An API that people can sign in to, and a browser that is a plain HTTP client: cookies, redirects, forms."""

import html
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from api import oidc_provider_app
from api.server import API, Answer, serve
from certorbit.api.app import make_app
from certorbit.api.sign_in import CALLBACK_PATH
from certorbit.clock import Clock
from certorbit.model.session import VerifiedClaims
from certorbit.model.sign_in import Attempt
from certorbit.oidc.provider import OIDCProvider
from certorbit.oidc_settings import OIDCSettings

ROLES = {"platform-admins": "admin", "sre": "operator", "staff": "viewer"}


class _Later:
    """An ASGI application that is known only after its port."""

    def __init__(self) -> None:
        self.app: Any = None
        self.identity: Renewable | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            assert self.identity is not None
            await self.identity.close()
            await send({"type": "lifespan.shutdown.complete"})


class Renewable:
    """The identity provider, which can be as if it were never asked: quicker than another application."""

    def __init__(self, make: Callable[[], OIDCProvider]) -> None:
        self._make = make
        self._all = [make()]

    def renew(self) -> None:
        self._all.append(self._make())

    async def authorization_url(self, attempt: Attempt) -> str:
        return await self._all[-1].authorization_url(attempt)

    async def redeem(self, code: str, *, attempt: Attempt, issuer: str | None) -> VerifiedClaims:
        return await self._all[-1].redeem(code, attempt=attempt, issuer=issuer)

    async def close(self) -> None:
        for provider in self._all:
            await provider.close()


@contextmanager
def run_sign_in(api: API, *, clock: Clock | None = None, public_path: str = "", **oidc: Any) -> Iterator[API]:
    """Serve the API's parts once more, with `[oidc]`, until the block ends. oidc: fields of `OIDCSettings`."""
    later, used = _Later(), clock or api.clock
    with serve(later) as port:
        url = f"http://127.0.0.1:{port}{public_path}"
        settings = api.parts.settings.model_copy(
            update={"public_url": url, "oidc": OIDCSettings(**{"roles": ROLES, **oidc})}
        )
        identity = later.identity = Renewable(
            lambda: OIDCProvider(settings.oidc, redirect_uri=f"{url}{CALLBACK_PATH}", clock=used)
        )
        parts = replace(api.parts, settings=settings, clock=used, identity=identity)
        later.app = make_app(parts)
        yield replace(api, port=port, parts=parts)


@dataclass
class Browser:
    """Keeps cookies by name, as one browser at one host does; follows nothing by itself."""

    cookies: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def request(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        self.url = urljoin(self.url, url)
        parts = urlsplit(self.url)
        sent = dict(headers or {})
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = urlencode(form) if form is not None else None
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        if document is not None:
            body, sent["Content-Type"] = json.dumps(document), "application/json"
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        try:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            received = response.getheaders()
            for line in [value for name, value in received if name.lower() == "set-cookie"]:
                self._keep(line)
            return Answer(response.status, {name.lower(): value for name, value in received}, response.read())
        finally:
            connection.close()

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", url, headers=headers)

    def follow(self, answer: Answer) -> Answer:
        """Go where the answer leads, once."""
        assert answer.status in {302, 303}, (answer.status, answer.body)
        return self.get(answer.headers["location"])

    def submit(self, page: Answer, **fields: str) -> Answer:
        """Send the page's form, its hidden fields with it."""
        assert page.status == 200, (page.status, page.body)
        hidden = {}
        for tag in re.findall(r"<input[^>]*>", page.body.decode()):
            found = dict(re.findall(r'(\w+)="([^"]*)"', tag))
            if found.get("type") == "hidden":
                hidden[html.unescape(found["name"])] = html.unescape(found.get("value", ""))
        return self.request("POST", self.url, form={**hidden, **fields})

    def _keep(self, line: str) -> None:
        pair, _, attributes = line.partition(";")
        name, _, value = pair.strip().partition("=")
        self.attributes[name] = attributes.strip()
        if "max-age=0" in attributes.lower().replace(" ", ""):
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


@contextmanager
def run_provider(folder: Path) -> Iterator[str]:
    """Run the real provider and give its base URL."""
    program = Path(oidc_provider_app.__file__)
    with (
        (folder / "provider.log").open("wb") as log,
        subprocess.Popen([sys.executable, str(program), str(folder)], stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(b"port "), (folder / "provider.log").read_text()
            yield f"http://127.0.0.1:{int(line.split()[1])}"
        finally:
            process.kill()


def go_to_provider(browser: Browser, api: API, person: str, *, path: str = "/auth/login") -> Answer:
    """Begin to sign in, give the password and the consent; return the provider's redirect to the callback."""
    answer = browser.get(f"{api.url}{path}")
    assert answer.status == 303, answer.body
    answer = browser.follow(answer)  # the authorization endpoint
    if answer.status == 302 and "/login/" in answer.headers["location"]:
        page = browser.follow(answer)
        answer = browser.follow(browser.submit(page, username=person, password=oidc_provider_app.PASSWORD))
    if answer.status == 200:
        answer = browser.submit(answer, allow="Authorize")
    assert answer.status == 302, (answer.status, answer.body)
    return answer


def sign_in(browser: Browser, api: API, person: str, *, path: str = "/auth/login") -> Answer:
    """Sign in and return the callback's answer."""
    return browser.follow(go_to_provider(browser, api, person, path=path))
