"""A small ACME CA on loopback that checks what it is sent, and misbehaves on request.

It checks content type, URL, nonce (each once) and signature of every request, so a client that passes here signs
right. What it says can be scripted per door: `ca.script("new-order", Say(429, ...))`.
"""

import hmac
import json
from base64 import urlsafe_b64encode
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from certorbit.acme.jws import decode_base64url
from fakes.fake_chains import ChainMaker

URN = "urn:ietf:params:acme:error:"


@dataclass(frozen=True)
class Say:
    """A scripted answer. body: JSON if it isn't bytes. then_as_usual: the request is carried out all the same."""

    status: int = 200
    body: object = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    then_as_usual: bool = False


def problem(status: int, kind: str, detail: str = "because", **more: object) -> Say:
    return Say(status, {"type": URN + kind, "detail": detail, **more}, {"Content-Type": "application/problem+json"})


HANG_UP = Say(hang_up=True)
HANG_UP_AFTERWARDS = Say(hang_up=True, then_as_usual=True)


class FakeCA:
    """Use as `async with FakeCA() as ca`. Doors: directory, nonce, new-account, account, orders, new-order, order,
    authz, challenge, finalize, cert, revoke, renewal-info.

    It stands in for a CA with ARI (RFC 9773) after `offer_renewal_info`: then it also takes a `replaces` once.

    judge: says of an identifier why it can't be validated (a problem's members), or None.
    """

    def __init__(self, *, eab_keys: dict[str, bytes] | None = None, chains: Sequence[str] = ("Fake Root",)) -> None:
        self.eab_keys = eab_keys or {}
        self.judge: Callable[[str], dict[str, Any] | None] = lambda _: None
        self.meta: dict[str, Any] = {}
        self.more_doors: dict[str, str] = {}
        self.challenge_types = ["http-01", "dns-01"]
        self.has_order_list = True
        self.polls_before_decision = 0
        self.visits: list[str] = []
        self.payloads: list[tuple[str, Any]] = []
        self.accounts: dict[str, dict[str, Any]] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.authorizations: dict[str, dict[str, Any]] = {}
        self.chains = [ChainMaker(name) for name in chains]
        self.renewal_windows: dict[str, dict[str, Any]] = {}
        self.retry_after: str | None = "21600"
        self.replaced: set[str] = set()
        self.url = ""
        self._scripts: dict[str, deque[Say]] = defaultdict(deque)
        self._nonces: set[str] = set()
        self._counter = 0
        self._polls: dict[str, int] = {}
        self._runner: web.AppRunner | None = None

    @property
    def directory_url(self) -> str:
        return f"{self.url}/directory"

    def script(self, door: str, *answers: Say) -> None:
        """Let the door give these answers to its next visitors, then work as usual."""
        self._scripts[door].extend(answers)

    def decide_after(self, polls: int) -> None:
        """Let whatever is undecided be decided after so many more polls."""
        self.polls_before_decision = polls
        self._polls.clear()

    def offer_renewal_info(self, cert_id: str, *, start: str, end: str, **more: object) -> None:
        """Suggest a window for a certificate; `more`: further members of the object. The directory shows the door."""
        self.more_doors["renewalInfo"] = f"{self.url}/renewal-info"
        self.renewal_windows[cert_id] = {"suggestedWindow": {"start": start, "end": end}, **more}

    def count(self, door: str) -> int:
        """Return how often the door was visited."""
        return self.visits.count(door)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=10**7)
        app.router.add_route("*", "/{door}{rest:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        door = request.match_info["door"]
        self.visits.append(door)
        said = self._scripts[door].popleft() if self._scripts[door] else None
        if said is not None and not said.then_as_usual:
            return self._speak(request, said)
        answer = await self._work(request, door)
        return self._speak(request, said) if said is not None else self._speak(request, answer)

    def _speak(self, request: web.Request, said: Say) -> web.StreamResponse:
        if said.hang_up:
            assert request.transport is not None
            request.transport.abort()
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        headers = {"Content-Type": "application/json", **said.headers}
        if request.match_info["door"] != "directory":
            headers.setdefault("Replay-Nonce", self._new_nonce())
        return web.Response(status=said.status, body=body, headers=headers)

    async def _work(self, request: web.Request, door: str) -> Say:
        if door == "directory":
            return Say(200, self._directory())
        if door == "nonce":
            return Say()
        if door == "renewal-info":
            assert request.method == "GET", "RFC 9773 §4.1"
            return self._renewal_info(request.match_info["rest"].removeprefix("/"))
        body = await request.json()
        header = json.loads(decode_base64url(body["protected"]))
        payload = json.loads(decode_base64url(body["payload"])) if body["payload"] else None
        if (refused := self._check(request, header, body)) is not None:
            return refused
        self.payloads.append((door, payload))
        handler = getattr(self, f"_on_{door.replace('-', '_')}")
        answer: Say = handler(request.match_info["rest"].strip("/"), payload, header)
        return answer

    def _directory(self) -> dict[str, Any]:
        doors = {"newNonce": "nonce", "newAccount": "new-account", "newOrder": "new-order", "revokeCert": "revoke"}
        return {name: f"{self.url}/{door}" for name, door in doors.items()} | self.more_doors | {"meta": self.meta}

    def _renewal_info(self, cert_id: str) -> Say:
        if cert_id not in self.renewal_windows:
            return problem(404, "malformed", "no such certificate")
        headers = {"Retry-After": self.retry_after} if self.retry_after is not None else {}
        return Say(200, self.renewal_windows[cert_id], headers)

    def _check(self, request: web.Request, header: dict[str, Any], body: dict[str, str]) -> Say | None:
        assert request.headers["Content-Type"] == "application/jose+json"
        assert request.headers["User-Agent"].startswith("certorbit/")
        assert set(body) == {"protected", "payload", "signature"}
        assert header["url"] == str(request.url), "RFC 8555 §6.4"
        assert ("jwk" in header) != ("kid" in header), "RFC 8555 §6.2"
        if header["nonce"] not in self._nonces:
            return problem(400, "badNonce")
        self._nonces.discard(header["nonce"])
        if "kid" in header and header["kid"] not in self.accounts:
            return problem(400, "accountDoesNotExist")
        jwk = header.get("jwk") or self.accounts[header["kid"]]["key"]
        try:
            _verify_es256(jwk, body)
        except InvalidSignature:
            return problem(403, "unauthorized", "the signature is wrong")
        return None

    def _on_new_account(self, _: str, payload: dict[str, Any], header: dict[str, Any]) -> Say:
        known = [url for url, account in self.accounts.items() if account["key"] == header["jwk"]]
        if known:
            return Say(200, self.accounts[known[0]]["shown"], {"Location": known[0]})
        if payload.get("onlyReturnExisting"):
            return problem(400, "accountDoesNotExist")
        assert payload["termsOfServiceAgreed"] is True
        if self.eab_keys:
            binding = payload.get("externalAccountBinding")
            if binding is None:
                return problem(403, "externalAccountRequired", "bind an external account")
            if not self._is_bound(binding, header):
                return problem(403, "unauthorized", "the external account binding is wrong")
        url = f"{self.url}/account/{self._next()}"
        shown = {"status": "valid", "contact": payload.get("contact", [])}
        if self.has_order_list:
            shown["orders"] = f"{self.url}/orders/1"
        self.accounts[url] = {"key": header["jwk"], "shown": shown}
        return Say(201, shown, {"Location": url})

    def _is_bound(self, binding: dict[str, str], header: dict[str, Any]) -> bool:
        inner = json.loads(decode_base64url(binding["protected"]))
        assert inner["alg"] == "HS256"
        assert inner["url"] == header["url"], "RFC 8555 §7.3.4"
        assert json.loads(decode_base64url(binding["payload"])) == header["jwk"], "RFC 8555 §7.3.4"
        signed = f"{binding['protected']}.{binding['payload']}".encode()
        mac = hmac.digest(self.eab_keys.get(inner["kid"], b"unknown"), signed, "sha256")
        return hmac.compare_digest(mac, decode_base64url(binding["signature"]))

    def _on_account(self, _: str, payload: dict[str, Any] | None, header: dict[str, Any]) -> Say:
        shown = self.accounts[header["kid"]]["shown"]
        if payload:
            shown["status"] = payload["status"]
        return Say(200, shown)

    def _on_orders(self, page: str, payload: None, header: dict[str, Any]) -> Say:
        number = int(page)
        urls = [f"{self.url}/order/{key}" for key in self.orders]
        more = {"Link": f'<{self.url}/directory>;rel="index", <{number + 1}>;rel="next"'}
        return Say(200, {"orders": urls[(number - 1) * 2 : number * 2]}, more if number * 2 < len(urls) else {})

    def _on_new_order(self, _: str, payload: dict[str, Any], header: dict[str, Any]) -> Say:
        if (predecessor := payload.get("replaces")) in self.replaced:
            return problem(409, "alreadyReplaced", "it has a successor")
        if predecessor is not None:
            self.replaced.add(predecessor)
        key = self._next()
        authorizations: list[str] = []
        for number, identifier in enumerate(payload["identifiers"]):
            self.authorizations[f"{key}.{number}"] = self._authorization(f"{key}.{number}", identifier)
            authorizations.append(f"{self.url}/authz/{key}.{number}")
        self.orders[key] = {
            "status": "pending",
            "identifiers": payload["identifiers"],
            "authorizations": authorizations,
            "finalize": f"{self.url}/finalize/{key}",
        }
        return Say(201, self.orders[key], {"Location": f"{self.url}/order/{key}"})

    def _authorization(self, key: str, identifier: dict[str, str]) -> dict[str, Any]:
        wildcard = identifier["value"].startswith("*.")
        kinds = [kind for kind in self.challenge_types if not wildcard or kind == "dns-01"]
        return {
            "status": "pending",
            "identifier": {**identifier, "value": identifier["value"].removeprefix("*.")},
            **({"wildcard": True} if wildcard else {}),
            "challenges": [
                {
                    "type": kind,
                    "url": f"{self.url}/challenge/{key}.{kind}",
                    "status": "pending",
                    "token": f"token_{key.replace('.', '-')}_{kind}",
                }
                for kind in kinds
            ],
        }

    def _on_order(self, key: str, payload: None, header: dict[str, Any]) -> Say:
        order = self.orders.get(key)
        if order is None:
            return problem(404, "malformed", "no such order")
        states = {self.authorizations[url.rsplit("/", 1)[1]]["status"] for url in order["authorizations"]}
        if order["status"] == "pending" and states == {"valid"}:
            order["status"] = "ready"
        if "invalid" in states:
            order["status"] = "invalid"
        if order["status"] == "processing" and self._is_decided(key):
            order["status"] = "valid"
        shown = {name: value for name, value in order.items() if name != "chains"}
        return Say(200, shown, {"Retry-After": "2"} if order["status"] == "processing" else {})

    def _on_authz(self, key: str, payload: None, header: dict[str, Any]) -> Say:
        authorization = self.authorizations[key]
        chosen = next((c for c in authorization["challenges"] if c["status"] == "processing"), None)
        if chosen is not None and self._is_decided(key):
            why = self.judge(authorization["identifier"]["value"])
            authorization["status"] = chosen["status"] = "invalid" if why else "valid"
            if why:
                chosen["error"] = why
        return Say(200, authorization)

    def _on_challenge(self, key: str, payload: dict[str, Any], header: dict[str, Any]) -> Say:
        assert payload == {}, "RFC 8555 §7.5.1"
        authorization = self.authorizations[".".join(key.split(".")[:2])]
        challenge = next(c for c in authorization["challenges"] if c["url"].endswith(key))
        if challenge["status"] != "pending":
            return problem(400, "malformed", f"the challenge is {challenge['status']}")
        challenge["status"] = "processing"
        return Say(200, challenge)

    def _on_finalize(self, key: str, payload: dict[str, Any], header: dict[str, Any]) -> Say:
        order = self.orders[key]
        self._on_order(key, None, header)
        if order["status"] != "ready":
            return problem(403, "orderNotReady", f"the order is {order['status']}")
        csr_der = decode_base64url(payload["csr"])
        order["chains"] = [maker.issue(csr_der) for maker in self.chains]
        order |= {"status": "processing", "certificate": f"{self.url}/cert/{key}"}
        return self._on_order(key, None, header)

    def _on_cert(self, key: str, payload: None, header: dict[str, Any]) -> Say:
        order_key, _, variant = key.partition("/")
        chains = self.orders[order_key]["chains"]
        alternates = ", ".join(f'<{self.url}/cert/{order_key}/{i}>; rel="alternate"' for i in range(1, len(chains)))
        headers = {
            "Content-Type": "application/pem-certificate-chain",
            **({"Link": alternates} if alternates else {}),
        }
        return Say(200, chains[int(variant or 0)], headers)

    def _on_revoke(self, _: str, payload: dict[str, Any], header: dict[str, Any]) -> Say:
        revoked = [sent["certificate"] for door, sent in self.payloads if door == "revoke"]
        if revoked.count(payload["certificate"]) > 1:
            return problem(400, "alreadyRevoked")
        return Say(200)

    def _is_decided(self, key: str) -> bool:
        self._polls[key] = self._polls.get(key, 0) + 1
        return self._polls[key] > self.polls_before_decision

    def _next(self) -> str:
        self._counter += 1
        return str(self._counter)

    def _new_nonce(self) -> str:
        nonce = urlsafe_b64encode(f"nonce {self._next():>8}".encode()).decode().rstrip("=")
        self._nonces.add(nonce)
        return nonce


def _verify_es256(jwk: dict[str, str], body: dict[str, str]) -> None:
    x, y = (int.from_bytes(decode_base64url(jwk[name]), "big") for name in "xy")
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    signature = decode_base64url(body["signature"])
    assert len(signature) == 64, "RFC 7518 §3.4"
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    signed = f"{body['protected']}.{body['payload']}".encode()
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
