"""A request for every writing route, each one that changes something, and what it needs before."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fastapi import FastAPI

from api.balancing import write
from api.material import make_leaf
from api.renewing import NATIVE, certificate_path, let_wait, run_renewing_api
from api.server import API, Answer, serve
from certorbit.api.app import make_app
from certorbit.model.session import Session
from certorbit.ports.target import PlacedTarget
from certorbit.publish_settings import BucketSettings, PublishSettings
from certorbit.publishing.publisher import Publisher
from certorbit.services import publish
from fakes.fake_target import FakeTarget
from publishing.scene import write_public
from records import make_session

DIALECTS = ("/api/v4", "/api/v4.0", "/api/v4.3")
WRITES = {"POST", "PUT", "PATCH", "DELETE"}
LB_QUERY = "provider=link11&listener=https&listener-port=443"


@contextmanager
def run_audited_api(directory: Path) -> Iterator[tuple[API, FastAPI]]:
    """Run an API with an issuer that revokes, a target with one listener, and a bucket to publish to."""
    with run_renewing_api(directory) as (running, _):
        parts = running.parts
        target = FakeTarget()
        listener = target.listeners[target.add_listener("https")]
        write(running, lambda tx: tx.listeners.put(listener, now=running.clock.now()))
        publisher = Publisher(
            settings=PublishSettings(
                recipient_key=write_public(X25519PrivateKey.generate()),
                buckets=(BucketSettings(name="main", url=f"file://{directory}/bucket"),),
            ),
            store=parts.store,
            keyring=parts.keyring,
            transactions=publish,
            clock=running.clock,
            new_id=parts.new_id,
        )
        placed = PlacedTarget(target=target, configurations=(), grace_seconds=0.0)
        parts = replace(parts, publisher=publisher, targets={"edge": placed})
        app = make_app(parts)
        with serve(app) as port:
            yield replace(running, port=port, parts=parts), app


def writing_routes(app: FastAPI) -> set[str]:
    """Return `METHOD path` of every route that may write; the dialects' prefix as `{dialect}`."""
    found = set()
    for route in app.routes:
        path = str(getattr(route, "path", ""))
        for prefix in DIALECTS:
            if path.startswith(f"{prefix}/"):
                path = "{dialect}" + path.removeprefix(prefix)
        found |= {f"{method} {path}" for method in (getattr(route, "methods", None) or set()) & WRITES}
    return found


@dataclass(frozen=True)
class Case:
    """send: makes what is needed, and returns the answer to the one request. action: of its record.

    asked: of the record that is written before somebody outside is asked to do it, where the end has one of its own.
    """

    action: str
    send: Callable[[API, str], Answer]
    asked: str = ""


def issued(api: API) -> str:
    name = api.new_name()
    assert api.generate(name, f"{name}.example.test").status == 201
    return name


def started(api: API) -> str:
    """Return an operation that waits for its next attempt."""
    answer = api.call("POST", f"{certificate_path(issued(api))}/renew")
    assert answer.status == 202, answer.body
    let_wait(api, answer.json["operation"])
    return str(answer.json["operation"])


def group(api: API, dialect: str) -> str:
    name = api.new_name()
    answer = api.call("POST", f"{dialect}/conf/prod/server-groups/{name}", document={"name": name})
    assert answer.status == 201, answer.body
    return f"{dialect}/conf/prod/server-groups/{name}"


def attached(api: API, dialect: str) -> str:
    """Attach a certificate and return its id."""
    name = issued(api)
    assert attach(api, dialect, name).status == 200
    return name


def attach(api: API, dialect: str, name: str) -> Answer:
    api.workflow.outcome = "go on"
    try:
        return api.call("PUT", f"{dialect}/conf/prod/load-balancers/edge-lb/certificates/{name}?{LB_QUERY}")
    finally:
        api.workflow.outcome = "issue"


def detach(api: API, dialect: str) -> Answer:
    name = attached(api, dialect)
    api.workflow.outcome = "go on"
    path = f"{dialect}/conf/prod/load-balancers/edge-lb/certificates?{LB_QUERY}&certificate-id={name}"
    try:
        return api.call("DELETE", path)
    finally:
        api.workflow.outcome = "issue"


def key_path(api: API) -> str:
    answer = api.call("POST", f"{NATIVE}/api-keys", document={"name": "made", "role": "viewer"})
    assert answer.status == 201, answer.body
    return f"{NATIVE}/api-keys/{answer.json['id']}"


def signed_in(api: API) -> Session:
    """Store a session, as the end of a sign-in does."""
    made = make_session(digest=api.new_name(), created_at=api.clock.now())
    write(api, lambda tx: tx.sessions.add(made))
    return made


def older_version(api: API) -> str:
    """Return the path of the version before a certificate's current one."""
    name = issued(api)
    answer = api.call("POST", f"{certificate_path(name)}/renew")
    write(api, lambda tx: api.workflow.issue(tx, answer.json["operation"]))
    versions = api.call("GET", f"{certificate_path(name)}/versions").json["items"]
    (older,) = [item["id"] for item in versions if not item["is_current"]]
    return f"{certificate_path(name)}/versions/{older}"


def revert(api: API, dialect: str) -> Answer:
    at = api.call("GET", f"{dialect}/conf/configs/prod").json["version"]
    group(api, dialect)
    return api.call("PUT", f"{dialect}/conf/configs/prod/versions/{at}/revert")


def regions(api: API, dialect: str) -> Answer:
    center = {"/api/v4": "ffm", "/api/v4.0": "lon", "/api/v4.3": "nyc"}[dialect]
    document: dict[str, Any] = {"lbs": [{"id": "edge", "regions": {"ams": center}}]}
    return api.call("POST", f"{dialect}/conf/prod/load-balancers/regions", document=document)


def upload(api: API, dialect: str) -> Answer:
    name = api.new_name()
    leaf = make_leaf(api.ca, f"{name}.example.test")
    return api.upload(name, leaf, path=f"{dialect}/conf/prod/certificates")


def switch(api: API) -> Answer:
    answer = api.call("POST", f"{NATIVE}/maintenance", document={"on": True})
    assert api.call("POST", f"{NATIVE}/maintenance", document={"on": False}).status == 200
    return answer


OF_CERTIFICATE = f"{NATIVE}/configs/{{config}}/certificates/{{entry_id}}"
CERTIFICATE = "{dialect}/conf/{config}/certificates/{entry_id}"
GROUPS = "{dialect}/conf/{config}/server-groups"
BALANCER = "{dialect}/conf/{config}/load-balancers/{name}/certificates"
CASES: dict[str, Case] = {
    f"POST {CERTIFICATE}": Case("certificate.created", upload),
    f"PUT {CERTIFICATE}": Case(
        "certificate.changed",
        lambda api, dialect: api.call("PUT", f"{dialect}/conf/prod/certificates/{issued(api)}?le_auto_renew=false"),
    ),
    f"DELETE {CERTIFICATE}": Case(
        "certificate.deleted",
        lambda api, dialect: api.call("DELETE", f"{dialect}/conf/prod/certificates/{issued(api)}"),
    ),
    "PUT {dialect}/conf/configs/{config}/versions/{number}/revert": Case("server-group.deleted", revert),
    f"POST {GROUPS}": Case(
        "server-group.created",
        lambda api, dialect: api.call(
            "POST", f"{dialect}/conf/prod/server-groups", document={"id": api.new_name(), "name": "added"}
        ),
    ),
    f"POST {GROUPS}/{{site_id}}": Case(
        "server-group.created",
        lambda api, dialect: api.call(
            "POST", f"{dialect}/conf/prod/server-groups/{api.new_name()}", document={"name": "made"}
        ),
    ),
    f"PUT {GROUPS}/{{site_id}}": Case(
        "server-group.changed",
        lambda api, dialect: api.call("PUT", group(api, dialect), document={"name": "changed"}),
    ),
    f"DELETE {GROUPS}/{{site_id}}": Case(
        "server-group.deleted", lambda api, dialect: api.call("DELETE", group(api, dialect))
    ),
    "POST {dialect}/conf/{config}/load-balancers/regions": Case("regions.changed", regions),
    "PUT {dialect}/tools/publish/{config}": Case(
        "configuration.published",
        lambda api, dialect: api.call("PUT", f"{dialect}/tools/publish/prod", document=[]),
    ),
    f"PUT {BALANCER}/{{entry_id}}": Case("attachment.created", lambda api, dialect: attach(api, dialect, issued(api))),
    f"DELETE {BALANCER}": Case("attachment.deleted", detach),
    f"POST {NATIVE}/operations/{{operation_id}}/retry": Case(
        "operation.retried", lambda api, _: api.call("POST", f"{NATIVE}/operations/{started(api)}/retry")
    ),
    f"POST {NATIVE}/operations/{{operation_id}}/cancel": Case(
        "operation.cancelled", lambda api, _: api.call("POST", f"{NATIVE}/operations/{started(api)}/cancel")
    ),
    f"POST {OF_CERTIFICATE}/deployments": Case(
        "deployment.started",
        lambda api, _: api.call("POST", f"{certificate_path(attached(api, DIALECTS[0]))}/deployments"),
    ),
    f"POST {NATIVE}/targets/{{target}}/check": Case(
        "target.checked", lambda api, _: api.call("POST", f"{NATIVE}/targets/edge/check")
    ),
    f"PATCH {OF_CERTIFICATE}/renewal": Case(
        "renewal.changed",
        lambda api, _: api.call("PATCH", f"{certificate_path(issued(api))}/renewal", document={"paused": True}),
    ),
    f"POST {OF_CERTIFICATE}/renew": Case(
        "renewal.started", lambda api, _: api.call("POST", f"{certificate_path(issued(api))}/renew")
    ),
    f"POST {OF_CERTIFICATE}/revoke": Case(
        "certificate.revoked",
        lambda api, _: api.call("POST", f"{certificate_path(issued(api))}/revoke", document={"reason": 1}),
        asked="certificate.revocation-asked",
    ),
    f"POST {OF_CERTIFICATE}/versions/{{version_id}}/rollback": Case(
        "certificate.changed", lambda api, _: api.call("POST", f"{older_version(api)}/rollback")
    ),
    f"POST {NATIVE}/api-keys": Case(
        "api-key.created",
        lambda api, _: api.call("POST", f"{NATIVE}/api-keys", document={"name": "new", "role": "viewer"}),
    ),
    f"PATCH {NATIVE}/api-keys/{{key_id}}": Case(
        "api-key.changed", lambda api, _: api.call("PATCH", key_path(api), document={"name": "renamed"})
    ),
    f"POST {NATIVE}/api-keys/{{key_id}}/rotate": Case(
        "api-key.rotated", lambda api, _: api.call("POST", f"{key_path(api)}/rotate")
    ),
    f"DELETE {NATIVE}/api-keys/{{key_id}}": Case("api-key.revoked", lambda api, _: api.call("DELETE", key_path(api))),
    f"DELETE {NATIVE}/sessions": Case(
        "session.ended", lambda api, _: api.call("DELETE", f"{NATIVE}/sessions?subject={signed_in(api).subject}")
    ),
    f"DELETE {NATIVE}/sessions/{{session_id}}": Case(
        "session.ended", lambda api, _: api.call("DELETE", f"{NATIVE}/sessions/{signed_in(api).id}")
    ),
    f"POST {NATIVE}/maintenance": Case("maintenance.switched", lambda api, _: switch(api)),
}
EXEMPT = {
    "POST {dialect}/tools/certificates/extractpfx": "Changes nothing: gives back what is in the file that was sent.",
    "POST /auth/logout": "An API key has no session; that a person's end is recorded: test_api_sign_in.py.",
}
