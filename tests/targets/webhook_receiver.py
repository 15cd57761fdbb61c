"""A stand-in for an operator's endpoint: a receiver written from docs/targets/webhook.md, with its state in memory.

It checks signature, time and every member of every request (`Complaint` answers 400), and keeps what real ones would
put somewhere. `faults` are answers that it gives instead, one request each.
"""

import asyncio
import hmac
import json
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

MEMBERS: dict[str, dict[str, type]] = {
    "discover": {"listeners": list},
    "look": {"listener": str, "port": int},
    "install": {
        "scope": str, "present": str, "configuration": str, "entry": str, "entry_uid": str, "version": str,
        "names": list, "not_after": str, "fingerprint": str, "chain": str, "private_key": str,
    },
    "attach": {"listener": str, "port": int, "handle": str, "instead_of": str},
    "set_default": {"listener": str, "port": int, "handle": str},
    "detach": {"listener": str, "port": int, "handle": str},
    "remove": {"handle": str},
    "list": {},
}  # fmt: skip

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Complaint(Exception):
    """The request is wrong, or can't be done. status: of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Held:
    default: str = ""
    certificates: list[str] = field(default_factory=list)


@dataclass
class Receiver:
    """The endpoint. asked: the actions that it was asked for, in order."""

    secret: str
    target: str
    listeners: dict[tuple[str, int], Held]
    copies: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    now: Callable[[], float] = time.time
    url: str = ""

    async def start(self, stack: AsyncExitStack, *, context: ssl.SSLContext | None = None) -> None:
        app = web.Application(client_max_size=1024 * 1024)
        app.router.add_post("/hook", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{port}/hook"

    def served(self, listener: tuple[str, int], name: str) -> str:
        """Return the fingerprint that a load balancer behind this endpoint would serve."""
        held = self.listeners[listener]
        for handle in [*reversed(held.certificates), held.default]:
            if handle and name in self.copies[handle]["names"]:
                return str(self.copies[handle]["fingerprint"])
        return str(self.copies[held.default]["fingerprint"]) if held.default else ""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.faults:
            return await self.faults.pop(0)(request)
        body = await request.read()
        try:
            message = self._open(request, body)
            self.asked.append(message["action"])
            answer = getattr(self, f"_{message['action']}")(message)
        except Complaint as complaint:
            return web.json_response({"message": str(complaint)}, status=complaint.status)
        return web.json_response(answer)

    def _open(self, request: web.Request, body: bytes) -> dict[str, Any]:
        timestamp = request.headers.get("Certorbit-Timestamp", "")
        expected = "sha256=" + hmac.digest(self.secret.encode(), timestamp.encode() + b"." + body, "sha256").hex()
        if not hmac.compare_digest(expected, request.headers.get("Certorbit-Signature", "")):
            raise Complaint(401, "the signature is wrong")
        if not re.fullmatch(r"\d{1,12}", timestamp) or abs(self.now() - int(timestamp)) > 300:
            raise Complaint(401, "the timestamp is too far from now")
        if request.content_type != "application/json":
            raise Complaint(400, "the content type is wrong")
        message: dict[str, Any] = json.loads(body)
        members = MEMBERS.get(message.get("action", ""))
        if members is None or message.get("target") != self.target:
            raise Complaint(400, "the action or the target is unknown")
        given = {name: type(value) for name, value in message.items() if name not in {"action", "target"}}
        if given != members:
            raise Complaint(400, f"the members are {sorted(given)}, not {sorted(members)}")
        return message

    def _place(self, message: dict[str, Any]) -> Held:
        place = message["listener"], message["port"]
        if place not in self.listeners:
            raise Complaint(404, "there is no such listener")
        return self.listeners[place]

    def _show(self, place: tuple[str, int]) -> dict[str, Any]:
        held = self.listeners[place]
        others = [handle for handle in held.certificates if handle != held.default]
        return {"listener": place[0], "port": place[1], "default": held.default, "certificates": others}

    def _discover(self, message: dict[str, Any]) -> dict[str, Any]:
        asked = [(place["listener"], place["port"]) for place in message["listeners"]]
        return {"listeners": [self._show(place) for place in asked if place in self.listeners]}

    def _look(self, message: dict[str, Any]) -> dict[str, Any]:
        self._place(message)
        return self._show((message["listener"], message["port"]))

    def _install(self, message: dict[str, Any]) -> dict[str, Any]:
        chain = load_pem_x509_certificates(message["chain"].encode())
        key = load_pem_private_key(message["private_key"].encode(), None)
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if key.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
            raise Complaint(409, "the key is not the certificate's")
        if sha256(chain[0].public_bytes(Encoding.DER)).hexdigest() != message["fingerprint"]:
            raise Complaint(409, "the fingerprint is not the certificate's")
        handle = f"{message['scope']}/{message['configuration']}/{message['entry']}"
        if message["present"] not in {"", handle}:
            raise Complaint(409, "the present copy is another one")
        self.copies[handle] = {"fingerprint": message["fingerprint"], "names": message["names"]}
        return {"handle": handle, "link": f"https://balancer.example/{handle}"}

    def _copy(self, message: dict[str, Any]) -> str:
        if message["handle"] not in self.copies:
            raise Complaint(404, "there is no such copy")
        return str(message["handle"])

    def _attach(self, message: dict[str, Any]) -> dict[str, Any]:
        held, handle, old = self._place(message), self._copy(message), message["instead_of"]
        if old and old == held.default:
            held.default = handle
        if old and old != handle and old in held.certificates:
            held.certificates.remove(old)
        if handle != held.default and handle not in held.certificates:
            held.certificates.append(handle)
        return {}

    def _set_default(self, message: dict[str, Any]) -> dict[str, Any]:
        held, handle = self._place(message), self._copy(message)
        held.default = handle
        held.certificates = [other for other in held.certificates if other != handle]
        return {}

    def _detach(self, message: dict[str, Any]) -> dict[str, Any]:
        held = self._place(message)
        if message["handle"] == held.default:
            raise Complaint(409, "it is the default")
        held.certificates = [other for other in held.certificates if other != message["handle"]]
        return {}

    def _remove(self, message: dict[str, Any]) -> dict[str, Any]:
        if any(message["handle"] in (held.default, *held.certificates) for held in self.listeners.values()):
            raise Complaint(409, "a listener serves it")
        self.copies.pop(message["handle"], None)
        return {}

    def _list(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"copies": [{"handle": h, "fingerprint": copy["fingerprint"]} for h, copy in self.copies.items()]}


def answering(status: int, content: bytes = b"", **headers: str) -> Fault:
    """Return a fault: this answer, whatever was asked."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, body=content, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def dripping(ended: asyncio.Event) -> Fault:
    """Return a fault: an answer that comes a byte at a time and never ends, until `ended`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not ended.is_set():
            try:
                await response.write(b" ")
            except ConnectionError:
                break
            await asyncio.sleep(0.02)
        return response

    return answer
