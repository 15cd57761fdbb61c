"""A stand-in for Google's Compute, Certificate Manager, Resource Manager and token APIs on loopback.

There is no real thing to be had for tests. It checks every request: path, method, query, fields of the body and
authorization; what it doesn't know is a failed test, not an answer. Written from the REST references (2026).
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from fakes.strict_server import StrictServer
from targets.gcp_state import GLOBAL, LOCATION, PROJECT, SELF, GoogleState, Resource, describe_pem, is_pair

TOKEN = "token-of-the-tests"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_CLASSIC = re.compile(rf"(projects/{PROJECT}/(?:global|regions/[a-z0-9-]+))/(\w+)(?:/([a-z0-9-]+))?(?:/(\w+))?")
_COLLECTIONS = {"sslCertificates", "targetHttpsProxies", "targetSslProxies", "forwardingRules", "operations"}


class Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str = "said so") -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    def body(self, *, is_compute: bool) -> Resource:
        own: Resource = {"code": self.status, "message": self.message}
        own |= {"errors": [{"reason": self.reason}]} if is_compute else {"status": self.reason}
        return {"error": own}


@dataclass
class Fault:
    """What happens once to the next request whose method and path fit. is_done: the request does its work before."""

    method: str
    path: str
    act: Callable[[web.Request], Awaitable[web.StreamResponse]]
    is_done: bool = False


class GoogleStandIn(StrictServer):
    """requests: method and path of all requests. tokens: the access tokens that are good. page: items of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.state = GoogleState()
        self.requests: list[tuple[str, str]] = []
        self.tokens = {TOKEN}
        self.grants: list[str] = []
        self.page = 500
        self.polls = 1  # how often an operation is asked for before it is done
        self.failing: list[Refusal] = []  # the next operations end with these
        self.faults: list[Fault] = []
        self._made = 0

    def fail(
        self,
        method: str,
        path: str,
        status: int,
        reason: str,
        *,
        message: str = "said so",
        times: int = 1,
        headers: dict[str, str] | None = None,
        is_done: bool = False,
    ) -> None:
        """Let the next requests that fit be answered so."""

        async def act(_: web.Request) -> web.StreamResponse:
            body = Refusal(status, reason, message).body(is_compute="/compute/" in path)
            return web.json_response(body, status=status, headers=headers)

        self.faults += [Fault(method, path, act, is_done=is_done)] * times

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        fault = next((f for f in self.faults if f.method == request.method and f.path in request.path), None)
        if fault:
            self.faults.remove(fault)
            if fault.is_done:
                await self._answer(request)
            return await fault.act(request)
        return await self._answer(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            if request.path == "/token":
                return await self._grant(request)
            self._authorize(request)
            return web.json_response(await self._serve(request))
        except Refusal as refusal:
            is_compute = request.path.startswith("/compute/")
            return web.json_response(refusal.body(is_compute=is_compute), status=refusal.status)
        except (AssertionError, KeyError) as error:
            self.unexpected.append(f"{request.method} {request.path_qs}: {error!r}")
            return web.json_response({"error": {"code": 400, "message": "the stand-in doesn't know this"}}, status=400)

    def _authorize(self, request: web.Request) -> None:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            raise Refusal(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")

    async def _grant(self, request: web.Request) -> web.Response:
        """RFC 7523: a signed assertion for an access token."""
        form = parse_qs(await request.text())
        assert request.method == "POST"
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        assert form["assertion"][0].count(".") == 2
        self.grants.append(form["assertion"][0])
        token = f"granted-{len(self.grants)}"
        self.tokens.add(token)
        return web.json_response({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})

    async def _serve(self, request: web.Request) -> Resource:
        text = await request.text()
        body = json.loads(text) if text else None
        query = dict(request.query)
        if request.path == f"/v1/projects/{PROJECT}:testIamPermissions":
            assert request.method == "POST"
            assert not query
            assert set(body) == {"permissions"}
            held = self.state.rights
            return {"permissions": [right for right in body["permissions"] if held is None or right in held]}
        if request.path.startswith("/compute/v1/"):
            match = _CLASSIC.fullmatch(request.path.removeprefix("/compute/v1/"))
            assert match, "no such path"
            assert match[2] in _COLLECTIONS, "no such path"
            return self._compute(request.method, match, query, body)
        assert request.path.startswith("/v1/projects/"), "no such path"
        return self._manager(request.method, request.path.removeprefix("/v1/"), query, body)

    # Compute

    def _compute(self, method: str, match: re.Match[str], query: dict[str, str], body: Any) -> Resource:
        scope, collection, name, verb = match[1], match[2], match[3], match[4]
        path = f"{scope}/{collection}" + (f"/{name}" if name else "")
        if collection == "operations":
            assert method == "POST"
            assert verb == "wait"
            assert not query
            assert body is None
            return self._poll(path, done={"status": "DONE"})
        assert collection != "targetSslProxies" or scope == GLOBAL, "SSL proxies are global"
        if method == "GET":
            assert body is None
            assert not verb
            if not name:
                assert set(query) <= {"maxResults", "pageToken"}
                return self._page(self.state.compute, path + "/", "items", query)
            assert not query
            return self._find(self.state.compute, path, "notFound")
        assert not query
        if collection == "sslCertificates":
            return self._change_certificate(method, scope, path, body)
        item = self._find(self.state.compute, path, "notFound")
        self._check_links(body["sslCertificates"])
        if collection == "targetHttpsProxies":
            assert method == "PATCH"
            assert not verb
            assert set(body) == {"sslCertificates", "fingerprint"}
            if body["fingerprint"] != item["fingerprint"]:
                raise Refusal(412, "conditionNotMet", "Invalid fingerprint.")
        else:
            assert method == "POST"
            assert verb == "setSslCertificates"
            assert set(body) == {"sslCertificates"}
        item["sslCertificates"] = list(body["sslCertificates"])
        self.state.stamp(path)
        return self._start(scope)

    def _change_certificate(self, method: str, scope: str, path: str, body: Any) -> Resource:
        if method == "DELETE":
            assert body is None
            self._find(self.state.compute, path, "notFound")
            for other in self.state.compute.values():
                if SELF + path in other.get("sslCertificates", []):
                    raise Refusal(400, "resourceInUseByAnotherResource", f"{path} is used by {other['name']}")
            del self.state.compute[path]
            return self._start(scope)
        assert method == "POST"
        assert set(body) == {"name", "description", "type", "selfManaged"}, set(body)
        assert body["type"] == "SELF_MANAGED"
        assert set(body["selfManaged"]) == {"certificate", "privateKey"}
        assert _NAME.fullmatch(body["name"]), body["name"]
        chain = body["selfManaged"]["certificate"]
        assert 2 <= chain.count("BEGIN CERTIFICATE") <= 5
        assert is_pair(chain, body["selfManaged"]["privateKey"])
        if f"{path}/{body['name']}" in self.state.compute:
            raise Refusal(409, "alreadyExists", f"The resource '{path}/{body['name']}' already exists")
        if not self.failing:
            self.state.add_certificate(body["name"], chain, scope=scope, description=body["description"])
        return self._start(scope)

    def _check_links(self, links: list[str]) -> None:
        assert links
        assert len(set(links)) == len(links)
        if len(links) > 15:
            raise Refusal(400, "limitExceeded", "at most 15 SSL certificates")
        for link in links:
            assert link.startswith(SELF)
            if link.removeprefix(SELF) not in self.state.compute:
                raise Refusal(404, "notFound", f"The resource '{link.removeprefix(SELF)}' was not found")

    # Certificate Manager

    def _manager(self, method: str, path: str, query: dict[str, str], body: Any) -> Resource:
        parent, _, last = path.rpartition("/")
        if "/operations/" in path:
            assert method == "GET"
            assert not query
            return self._poll(path, done={"done": True, "response": {}})
        assert path.startswith(f"{LOCATION}/")
        collections = {"certificates", "certificateMaps", "certificateMapEntries"}
        if last in collections and method == "GET":
            assert body is None
            assert set(query) <= {"pageSize", "pageToken"}
            if last == "certificateMapEntries":
                self._find(self.state.manager, parent, "NOT_FOUND")
            return self._page(self.state.manager, path + "/", last, query)
        if last in collections:
            assert method == "POST"
            return self._create(path, last, query, body)
        if method == "GET":
            assert not query
            assert body is None
            return self._find(self.state.manager, path, "NOT_FOUND")
        item = self._find(self.state.manager, path, "NOT_FOUND")
        if method == "DELETE":
            return self._delete(path, query, body)
        assert method == "PATCH"
        return self._patch(item, query, body, is_entry="/certificateMapEntries/" in path)

    def _create(self, path: str, collection: str, query: dict[str, str], body: Any) -> Resource:
        key = {"certificates": "certificateId", "certificateMapEntries": "certificateMapEntryId"}[collection]
        assert set(query) == {key}
        assert _NAME.fullmatch(query[key])
        name = f"{path}/{query[key]}"
        if name in self.state.manager:
            raise Refusal(409, "ALREADY_EXISTS", f"Resource '{name}' already exists")
        if collection == "certificates":
            assert set(body) == {"description", "selfManaged", "labels"}
            self.state.manager[name] = {"name": name, **self._read_material(body), "labels": body["labels"]}
            return self._start(LOCATION)
        assert set(body) in ({"hostname", "certificates", "labels"}, {"matcher", "certificates", "labels"})
        assert body.get("matcher", "PRIMARY") == "PRIMARY"
        for other, item in self.state.manager.items():
            if other.startswith(f"{path}/") and item.get("hostname") == body.get("hostname"):
                raise Refusal(409, "ALREADY_EXISTS", "an entry for this host name exists")
        self._check_entry(body["certificates"])
        self.state.manager[name] = {**body, "name": name, "state": "ACTIVE"}
        return self._start(LOCATION)

    def _patch(self, item: Resource, query: dict[str, str], body: Any, *, is_entry: bool) -> Resource:
        if is_entry:
            assert query == {"updateMask": "certificates"}
            assert set(body) == {"certificates"}
            self._check_entry(body["certificates"])
            item["certificates"] = list(body["certificates"])
        else:
            assert query == {"updateMask": "selfManaged,description"}
            assert set(body) == {"description", "selfManaged"}
            item |= self._read_material(body)
        return self._start(LOCATION)

    def _delete(self, path: str, query: dict[str, str], body: Any) -> Resource:
        assert not query
        assert body is None
        if any(path in item.get("certificates", []) for item in self.state.manager.values()):
            raise Refusal(400, "FAILED_PRECONDITION", "the certificate is used by a map entry")
        del self.state.manager[path]
        return self._start(LOCATION)

    def _check_entry(self, names: list[str]) -> None:
        assert names
        assert len(names) <= 4
        assert len(set(names)) == len(names)
        for name in names:
            self._find(self.state.manager, name, "NOT_FOUND")

    def _read_material(self, body: Any) -> Resource:
        own = body["selfManaged"]
        assert set(own) == {"pemCertificate", "pemPrivateKey"}
        assert is_pair(own["pemCertificate"], own["pemPrivateKey"])
        return {"description": body["description"], "selfManaged": {}, **describe_pem(own["pemCertificate"])}

    # Both

    def _find(self, store: dict[str, Resource], path: str, reason: str) -> Resource:
        if path not in store:
            raise Refusal(404, reason, f"The resource '{path}' was not found")
        return store[path]

    def _page(self, store: dict[str, Resource], prefix: str, key: str, query: dict[str, str]) -> Resource:
        names = sorted(name for name in store if name.startswith(prefix) and "/" not in name.removeprefix(prefix))
        start = int(query.get("pageToken", "0"))
        found: Resource = {key: [store[name] for name in names[start : start + self.page]]}
        return found | ({"nextPageToken": str(start + self.page)} if start + self.page < len(names) else {})

    def _start(self, scope: str) -> Resource:
        self._made += 1
        name = f"operation-{self._made}"
        path = f"{scope}/operations/{name}"
        self.state.operations[path] = {"polls": self.polls, "failure": self.failing.pop(0) if self.failing else None}
        return {"name": path} if scope == LOCATION else {"name": name, "status": "RUNNING", "kind": "compute#operation"}

    def _poll(self, path: str, *, done: Resource) -> Resource:
        operation = self._find(self.state.operations, path, "notFound")
        operation["polls"] -= 1
        name = path if "/locations/" in path else path.rsplit("/", 1)[-1]
        if operation["polls"] > 0:
            return {"name": name, "status": "RUNNING"}
        failure = operation["failure"]
        if failure is None:
            return {"name": name, **done}
        if "/locations/" in path:
            return {"name": name, "done": True, "error": {"code": failure.status, "message": failure.message}}
        error = {"errors": [{"code": failure.reason, "message": failure.message}]}
        return {"name": name, "status": "DONE", "error": error, "httpErrorStatusCode": failure.status}


async def hang(_: web.Request) -> web.StreamResponse:
    """A server that never answers; the client has to give up."""
    await asyncio.Event().wait()
    raise AssertionError
