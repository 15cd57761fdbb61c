"""A stand-in for the part of a Kubernetes API server that deals with Secrets, over TLS on loopback.

There is no real thing to be had for tests. It checks every request: path, method, query, headers, fields of the body
and authorization; what it doesn't know is a failed test, not an answer. Written from the API reference (v1.31).
"""

import base64
import json
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from fakes.strict_server import StrictServer
from make import make_certificate, make_key, pem, write_key

Resource = dict[str, Any]
_PATH = re.compile(r"/api/v1/namespaces/([a-z0-9-]+)/secrets(?:/([a-z0-9.-]+))?")
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
TOKEN = "token-of-the-pod"


class Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str = "said so") -> None:
        super().__init__(message)
        self.status = status
        self.body = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": status}


@dataclass
class Fault:
    """What happens once to the next request whose method and path fit. is_done: the request does its work before."""

    method: str
    path: str
    act: Callable[[web.Request], Awaitable[web.StreamResponse]]
    is_done: bool = False


class ClusterStandIn(StrictServer):
    """secrets: by namespace and name. rights: verbs that are allowed. tokens: bearer tokens that are good.

    folder: where it puts its CA's certificate (`ca.crt`) and a token file (`token`). clients: a CA whose client
    certificates are as good as a token; "" for none.
    """

    def __init__(self, folder: Path, *, clients: str = "") -> None:
        super().__init__()
        self.secrets: dict[tuple[str, str], Resource] = {}
        self.rights = {"get", "list", "create", "patch", "delete"}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.tokens = {TOKEN}
        self.page = 200
        self._revision = 100
        self._folder = folder
        self._clients = clients
        (folder / "token").write_text(f"{TOKEN}\n")

    def put(self, namespace: str, name: str, secret: Resource) -> None:
        """Write a Secret as somebody else."""
        self._revision += 1
        metadata = {**secret.get("metadata", {}), "name": name, "namespace": namespace}
        metadata |= {"resourceVersion": str(self._revision), "uid": metadata.get("uid", f"uid-{self._revision}")}
        self.secrets[namespace, name] = {"apiVersion": "v1", "kind": "Secret", **secret, "metadata": metadata}

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
            return web.json_response(Refusal(status, reason, message).body, status=status, headers=headers)

        self.faults += [Fault(method, path, act, is_done=is_done)] * times

    def make_tls(self) -> ssl.SSLContext:
        key, ca_key = make_key(index=900), make_key(index=901)
        ca = make_certificate(key=ca_key, subject="CN=cluster", is_ca=True, days=3650)
        server = make_certificate(key=key, names=["127.0.0.1"], issuer=ca, issuer_key=ca_key, days=3650)
        (self._folder / "ca.crt").write_text(pem(ca))
        (self._folder / "server.pem").write_text(pem(server) + write_key(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "server.pem")
        if self._clients:
            context.load_verify_locations(cadata=self._clients)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

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
            self._authorize(request)
            status, body = self._serve(request, await request.text())
            return web.json_response(body, status=status)
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        except (AssertionError, KeyError) as error:
            self.unexpected.append(f"{request.method} {request.path_qs}: {error!r}")
            return web.json_response({"kind": "Status", "message": "the stand-in doesn't know this"}, status=400)

    def _authorize(self, request: web.Request) -> None:
        assert request.transport is not None
        if request.transport.get_extra_info("peercert"):
            return
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            raise Refusal(401, "Unauthorized", "Unauthorized")

    def _serve(self, request: web.Request, text: str) -> tuple[int, Resource]:
        body, query = json.loads(text) if text else None, dict(request.query)
        if request.path == _REVIEW:
            assert request.method == "POST"
            return 201, self._review(body)
        match = _PATH.fullmatch(request.path)
        assert match, "no such path"
        key, accept = (match[1], match[2] or ""), request.headers["Accept"]
        if request.method == "GET":
            assert body is None
            return 200, self._read(key, query, accept)
        if request.method == "DELETE":
            self._need("delete", key)
            assert set(body) == {"apiVersion", "kind", "preconditions"}
            if body["preconditions"] != {"uid": self._find(key)["metadata"]["uid"]}:
                raise Refusal(409, "Conflict", "the UID in the precondition does not match")
            del self.secrets[key]
            return 200, {"kind": "Status", "status": "Success"}
        assert query == {"fieldManager": "certorbit"}
        return self._create(key[0], body) if request.method == "POST" else self._patch(request, key, body)

    def _review(self, body: Resource) -> Resource:
        assert (body["apiVersion"], body["kind"]) == ("authorization.k8s.io/v1", "SelfSubjectAccessReview")
        asked = body["spec"]["resourceAttributes"]
        assert set(asked) == {"namespace", "verb", "resource"}
        assert asked["resource"] == "secrets"
        return {**body, "status": {"allowed": asked["verb"] in self.rights}}

    def _read(self, key: tuple[str, str], query: dict[str, str], accept: str) -> Resource:
        if key[1]:
            self._need("get", key)
            assert not query
            assert accept in {"application/json", _METADATA}
            found = self._find(key)
            return {"kind": "PartialObjectMetadata", "metadata": found["metadata"]} if accept == _METADATA else found
        self._need("list", key)
        assert accept == _METADATA_LIST, "a list must not bring private keys"
        assert set(query) <= {"labelSelector", "limit", "continue"}
        wanted = dict(part.split("=") for part in query["labelSelector"].split(","))
        found_all = [
            {"metadata": secret["metadata"]}
            for (namespace, _), secret in sorted(self.secrets.items())
            if namespace == key[0] and wanted.items() <= secret["metadata"].get("labels", {}).items()
        ]
        start = int(query.get("continue", "0"))
        size = min(self.page, int(query["limit"]))
        more = {"continue": str(start + size)} if start + size < len(found_all) else {}
        return {"kind": "PartialObjectMetadataList", "metadata": more, "items": found_all[start : start + size]}

    def _create(self, namespace: str, body: Resource) -> tuple[int, Resource]:
        name = body["metadata"]["name"]
        self._need("create", (namespace, name))
        assert set(body) <= {"apiVersion", "kind", "type", "immutable", "metadata", "data"}
        assert (body["apiVersion"], body["kind"], body["type"]) == ("v1", "Secret", "kubernetes.io/tls")
        assert set(body["metadata"]) == {"name", "labels", "annotations"}
        self._check_data(body["data"])
        if (namespace, name) in self.secrets:
            raise Refusal(409, "AlreadyExists", f'secrets "{name}" already exists')
        self.put(namespace, name, body)
        return 201, self.secrets[namespace, name]

    def _patch(self, request: web.Request, key: tuple[str, str], body: Resource) -> tuple[int, Resource]:
        assert request.method == "PATCH"
        self._need("patch", key)
        assert request.headers["Content-Type"] == "application/merge-patch+json"
        assert set(body) == {"metadata", "data"}
        assert set(body["metadata"]) == {"labels", "annotations", "resourceVersion"}
        self._check_data(body["data"])
        found = self._find(key)
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise Refusal(409, "Conflict", "the object has been modified")
        if found.get("immutable"):
            raise Refusal(422, "Invalid", "data: Forbidden: field is immutable when `immutable` is set")
        metadata = dict(found["metadata"])
        for part in ("labels", "annotations"):
            metadata[part] = {**metadata.get(part, {}), **body["metadata"][part]}
        self.put(*key, {**found, "metadata": metadata, "data": {**found.get("data", {}), **body["data"]}})
        return 200, self.secrets[key]

    def _check_data(self, data: Resource) -> None:
        assert set(data) == {"tls.crt", "tls.key"}
        assert base64.b64decode(data["tls.crt"], validate=True).startswith(b"-----BEGIN CERTIFICATE-----")
        assert base64.b64decode(data["tls.key"], validate=True).startswith(b"-----BEGIN PRIVATE KEY-----")

    def _need(self, verb: str, key: tuple[str, str]) -> None:
        if verb not in self.rights:
            raise Refusal(403, "Forbidden", f'secrets is forbidden: cannot {verb} "secrets" in namespace "{key[0]}"')

    def _find(self, key: tuple[str, str]) -> Resource:
        if key not in self.secrets:
            raise Refusal(404, "NotFound", f'secrets "{key[1]}" not found')
        return self.secrets[key]
