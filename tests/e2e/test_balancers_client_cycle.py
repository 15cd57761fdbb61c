"""A client program's full cycle, as infrastructure-as-code tools go it: a service process, a real HAProxy, handshakes.

Each stage checks exact status codes and bodies, then by a second look that nothing differs from what was written, then
by TLS handshakes what is really served.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from e2e.balancer_client import BalancerClient, is_link_of
from e2e.deployment import Deployment
from e2e.edge import Edge, running_edge
from e2e.service import Answer, Client
from e2e.targets_toml import write_settings
from targets.haproxy_process import settings_for

CREATED = {"message": "Successfully created entry"}
UPDATED = {"message": "Successfully updated entry"}
DELETED = {"message": "Successfully deleted entry"}
# Go's time.Parse(time.RFC3339, …): two digits everywhere, a capital T, fractions allowed, Z or an offset.
RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})")
IDS = [f"shop-{number:02}" for number in range(1, 13)]
# What is attached where: the default first, then by SNI.
PLAN = {"https-1": IDS[:4], "https-2": IDS[4:6]}
OLD, NEW = IDS[1], "shop-02-rotated"
GROUP: dict[str, Any] = {
    "id": "a1b2c3d4e5f6",
    "name": "Shop",
    "description": "What customers see",
    "server_names": ["www.shop.example.com", "shop.example.com", "*.shop.example.com"],
    "security_policy": "strict",
    "routing_profile": "nearest",
    "proxy_template": "large-bodies",
    "challenge_cookie_domain": "shop.example.com",
    "ssl_certificate": OLD,
    "client_certificate": "",
    "client_certificate_mode": "off",
    "mobile_application_group": "app",
}


@dataclass(frozen=True)
class Stage:
    """The service, the API as the client uses it, HAProxy, and where the buckets are."""

    client: Client
    api: BalancerClient
    edge: Edge
    folder: Path

    def request(self, method: str, path: str, body: object = None) -> Answer:
        return self.client.request(method, f"{self.api.at}/{path}", body)

    def get(self, path: str) -> Any:
        answer = self.request("GET", path)
        assert answer.status == 200, (path, answer.body)
        return answer.json

    def fingerprint(self, entry_id: str) -> str:
        return next(iter(self.api.fingerprints(entry_id).values()))


Place = tuple[Client, Edge, Path]  # the folder of the buckets


@pytest.fixture(scope="module")
def place(
    make_deployment: Callable[[dict[str, str]], Deployment], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A service with HAProxy, for all clients of this module: each leaves it as it found it, but for the defaults."""
    folder = tmp_path_factory.mktemp("cycle")
    with running_edge(folder / "edge", listeners=2) as edge, ExitStack() as stack:
        key = X25519PrivateKey.generate().public_key().public_bytes_raw()
        buckets = [{"name": name, "url": f"file://{folder}/{name}"} for name in ("main", "second")]
        publish = {"recipient_key": b64encode(key).decode(), "default": "main", "buckets": buckets}
        settings = write_settings(folder / "certorbit.toml", [settings_for(edge.haproxy)], publish=publish)
        deployment = make_deployment({"CERTORBIT_SETTINGS": str(settings)})
        stack.callback(deployment.close)
        client = deployment.serve().client
        BalancerClient(client).wait_listed("https-2")
        yield client, edge, folder


def open_stage(place: Place, dialect: str) -> Stage:
    client, edge, folder = place
    return Stage(client, BalancerClient(client, dialect), edge, folder)


def name_of(entry_id: str) -> str:
    return f"{entry_id}.example.com"


def flags_of(entry_id: str) -> dict[str, bool]:
    """Return what the client wants of a certificate: all combinations occur."""
    number = int(entry_id[5:7])
    return {"le_auto_renew": number % 2 == 0, "le_auto_replace": number % 3 == 0}


def create_certificate(stage: Stage, entry_id: str) -> None:
    query = urlencode({"domains": name_of(entry_id)})
    answer = stage.request("POST", f"certificates/{entry_id}?{query}", {"id": entry_id, "side": "server"})
    assert (answer.status, answer.json) == (201, CREATED)
    flags = {name: str(value).lower() for name, value in flags_of(entry_id).items()}
    answer = stage.request("PUT", f"certificates/{entry_id}?{urlencode(flags)}")
    assert (answer.status, answer.body) == (200, b"")


def assert_certificate_reads_back(entry: dict[str, Any], entry_id: str) -> None:
    wanted = {"id": entry_id, "name": entry_id, "side": "server", "san": [name_of(entry_id)], **flags_of(entry_id)}
    assert {field: entry[field] for field in wanted} == wanted
    assert entry["cert_body"].startswith("-----BEGIN CERTIFICATE-----")
    assert datetime.strptime(entry["expires"], "%Y-%m-%d")
    assert RFC3339.fullmatch(entry["uploaded"])


def look_up_the_configuration(stage: Stage) -> None:
    listed = stage.client.get(f"/api/{stage.api.dialect}/conf/configs").json
    assert listed["total"] == 1
    (one,) = listed["items"]
    assert set(one) == {"id", "description", "version", "date"}
    assert one["id"] == "prod"
    assert RFC3339.fullmatch(one["date"]), one["date"]
    assert datetime.fromisoformat(one["date"]).tzinfo is not None
    assert stage.client.get(f"/api/{stage.api.dialect}/conf/configs/prod").json == one


def create_everything(stage: Stage) -> None:
    with ThreadPoolExecutor(len(IDS)) as pool:
        list(pool.map(lambda entry_id: create_certificate(stage, entry_id), IDS))
    answer = stage.request("POST", f"server-groups/{GROUP['id']}", GROUP)
    assert (answer.status, answer.json) == (201, CREATED)
    for listener, entries in PLAN.items():
        for entry_id in entries:
            answer = stage.api.attach(stage.api.listener(listener), entry_id, default=entry_id == entries[0])
            assert (answer.status, answer.body) == (200, b"")


def take_a_second_look(stage: Stage, *, group: dict[str, Any], plan: dict[str, list[str]]) -> None:
    """All that was written reads back as it was written, in lists and alone, and a third look is the same again."""
    listed = {item["id"]: item for item in stage.get("certificates")["items"]}
    for entry_id in {entry for entries in plan.values() for entry in entries}:
        assert_certificate_reads_back(listed[entry_id], entry_id)
        assert stage.get(f"certificates/{entry_id}") == listed[entry_id]
    groups = {item["id"]: item for item in stage.get("server-groups")["items"]}
    assert groups == {"__default__": groups["__default__"], group["id"]: group}
    assert stage.get(f"server-groups/{group['id']}") == group
    for listener, entries in plan.items():
        item = stage.api.listener(listener)
        assert is_link_of(item["default_certificate"], entries[0])
        assert len(item["certificates"]) == len(entries)
        for entry_id in entries:
            assert stage.api.shows(item, entry_id)
            links = {link["link"] for link in listed[entry_id]["links"]}
            assert links & set(item["certificates"]), "the certificate's link isn't the one that the listener shows"
        assert isinstance(item["listener_port"], int)
        assert item["listener_port"] == stage.edge.port(listener)
        assert (item["provider"], item["load_balancer_type"]) == ("link11", "haproxy")
    for path in ("certificates", "server-groups", "load-balancers"):
        assert stage.get(path) == stage.get(path)


def assert_served(stage: Stage, plan: dict[str, list[str]]) -> None:
    """Real handshakes: each name gets its certificate, unknown names and no name get the default."""
    for listener, entries in plan.items():
        for entry_id in entries:
            assert stage.edge.served(listener, name_of(entry_id)) == stage.fingerprint(entry_id)
        for name in ("", "nobody.example.org"):
            assert stage.edge.served(listener, name) == stage.fingerprint(entries[0])


def repeat_what_is_done(stage: Stage) -> None:
    """A client that got no answer sends the same again: nothing changes, nothing starts."""
    before = stage.client.get("/api/certorbit/v1/deployments").json["total"]
    version = stage.client.get(f"/api/{stage.api.dialect}/conf/configs/prod").json["version"]
    create_certificate(stage, IDS[2])
    assert stage.request("POST", f"server-groups/{GROUP['id']}", GROUP).status == 201
    assert stage.api.attach(stage.api.listener("https-1"), IDS[0], default=True).status == 200
    assert stage.api.attach(stage.api.listener("https-1"), IDS[2]).status == 200
    assert stage.client.get("/api/certorbit/v1/deployments").json["total"] == before
    assert stage.client.get(f"/api/{stage.api.dialect}/conf/configs/prod").json["version"] == version


def refuse_to_delete_what_is_attached(stage: Stage) -> None:
    for entry_id in (PLAN["https-1"][0], OLD):
        answer = stage.request("DELETE", f"certificates/{entry_id}")
        assert answer.status == 400
        assert set(answer.json) == {"code", "message"}
        assert answer.json["code"] == 400
        assert "in use by the load balancer 'edge' (listener 'https-1'" in answer.json["message"]
    answer = stage.api.detach(stage.api.listener("https-1"), PLAN["https-1"][0])
    assert (answer.status, answer.json["code"]) == (400, 400)
    assert "a default can't be detached" in answer.json["message"]


def rotate(stage: Stage) -> dict[str, list[str]]:
    """Detach the old one by its link, delete it while the server group names it, make the new one, put it there."""
    item = stage.api.listener("https-1")
    (link,) = [one for one in item["certificates"] if is_link_of(one, OLD)]
    answer = stage.api.detach(item, link)
    assert (answer.status, answer.body) == (200, b"")
    assert not stage.api.shows(stage.api.listener("https-1"), OLD)
    assert stage.edge.served("https-1", name_of(OLD)) == stage.fingerprint(PLAN["https-1"][0]), "it is still served"
    assert stage.get(f"certificates/{OLD}/links") == {"total": 1, "items": [{"id": GROUP["id"], "name": GROUP["name"]}]}
    answer = stage.request("DELETE", f"certificates/{OLD}")
    assert (answer.status, answer.body) == (200, b"")
    assert stage.request("GET", f"certificates/{OLD}").status == 404
    assert stage.get(f"server-groups/{GROUP['id']}") == {**GROUP, "ssl_certificate": "placeholder"}
    create_certificate(stage, NEW)
    answer = stage.api.attach(stage.api.listener("https-1"), NEW)
    assert (answer.status, answer.body) == (200, b"")
    answer = stage.request("PUT", f"server-groups/{GROUP['id']}", {**GROUP, "ssl_certificate": NEW})
    assert (answer.status, answer.body) == (200, b"")
    first, _, *others = PLAN["https-1"]
    return {**PLAN, "https-1": [first, NEW, *others]}


def publish_everything(stage: Stage) -> None:
    """To a bucket that the client names, and to the default one."""
    version = stage.client.get(f"/api/{stage.api.dialect}/conf/configs/prod").json["version"]
    second = {"name": "second", "url": f"file://{stage.folder}/second"}
    for body, name in (([second], "second"), ([], "main")):
        answer = stage.client.request("PUT", f"/api/{stage.api.dialect}/tools/publish/prod", body)
        assert answer.status == 200, answer.body
        assert (answer.json["configuration"], answer.json["version"]) == ("prod", version)
        (bucket,) = answer.json["buckets"]
        assert (bucket["name"], bucket["url"]) == (name, f"file://{stage.folder}/{name}")
        written = [path for path in (stage.folder / name / "prod").rglob("*") if path.is_file()]
        assert len(written) >= bucket["objects"] > 0
        assert not [path for path in written if b"PRIVATE KEY" in path.read_bytes()]


def import_everything(stage: Stage) -> None:
    """A client that takes over what exists asks for one of each by its id."""
    assert_certificate_reads_back(stage.get(f"certificates/{NEW}"), NEW)
    assert stage.get(f"server-groups/{GROUP['id']}")["ssl_certificate"] == NEW
    assert stage.client.get(f"/api/{stage.api.dialect}/conf/configs/prod").json["id"] == "prod"
    for path in ("certificates/nobody", "server-groups/nobody", "certificates/nobody/links"):
        answer = stage.request("GET", path)
        assert (answer.status, answer.json["code"]) == (404, 404)
        assert set(answer.json) == {"code", "message"}


def destroy_everything(stage: Stage, plan: dict[str, list[str]]) -> None:
    """A default can't be taken off: the client makes another certificate the default first."""
    create_certificate(stage, "shop-99")
    for listener, entries in plan.items():
        answer = stage.api.attach(stage.api.listener(listener), "shop-99", default=True)
        assert (answer.status, answer.body) == (200, b"")
        # The former default keeps its place for its own names until it is detached.
        assert stage.edge.served(listener, name_of(entries[0])) == stage.fingerprint(entries[0])
        for entry_id in entries:
            answer = stage.api.detach(stage.api.listener(listener), entry_id)
            assert (answer.status, answer.body) == (200, b"")
    assert_served(stage, {listener: ["shop-99"] for listener in plan})
    answer = stage.request("DELETE", f"server-groups/{GROUP['id']}")
    assert (answer.status, answer.body) == (200, b"")
    for entry_id in {*IDS, NEW} - {OLD}:
        answer = stage.request("DELETE", f"certificates/{entry_id}")
        assert (answer.status, answer.body) == (200, b""), entry_id
    assert [item["id"] for item in stage.get("certificates")["items"]] == ["placeholder", "shop-99"]
    assert [item["id"] for item in stage.get("server-groups")["items"]] == ["__default__"]
    copies = [path for path in Path(stage.edge.haproxy.directory).glob("*/prod.*.pem") if "shop-99" not in path.name]
    assert copies == [], "HAProxy's folder keeps keys of certificates that are gone"


@pytest.mark.timeout(240)
def test_a_v4_3_client_goes_its_full_cycle(place: Place) -> None:
    stage = open_stage(place, "v4.3")
    look_up_the_configuration(stage)
    create_everything(stage)
    take_a_second_look(stage, group=GROUP, plan=PLAN)
    assert_served(stage, PLAN)
    repeat_what_is_done(stage)
    take_a_second_look(stage, group=GROUP, plan=PLAN)
    refuse_to_delete_what_is_attached(stage)
    plan = rotate(stage)
    take_a_second_look(stage, group={**GROUP, "ssl_certificate": NEW}, plan=plan)
    assert_served(stage, plan)
    publish_everything(stage)
    import_everything(stage)
    destroy_everything(stage, plan)


@pytest.mark.parametrize(("dialect", "updated", "deleted"), [("v4", UPDATED, DELETED), ("v4.0", None, None)])
def test_an_older_client_gets_its_own_messages(place: Place, dialect: str, updated: object, deleted: object) -> None:
    stage = open_stage(place, dialect)

    def check(answer: Answer, message: object) -> None:
        assert (answer.status, answer.json if answer.body else None) == (200, message)

    assert stage.request("POST", "certificates/old?domains=old.example.com").json == CREATED
    assert stage.request("POST", "server-groups", {"id": "front", "name": "Front"}).json == CREATED
    check(stage.request("PUT", "certificates/old?le_auto_renew=false"), updated)
    check(stage.request("PUT", "server-groups/front", {"name": "Front", "ssl_certificate": "old"}), updated)
    item = stage.api.listener("https-1")
    check(stage.api.attach(item, "old"), None)
    assert stage.api.shows(stage.api.listener("https-1"), "old")
    assert stage.edge.served("https-1", "old.example.com") == stage.fingerprint("old")
    check(stage.api.detach(item, "old"), None)
    check(stage.request("DELETE", "certificates/old"), deleted)
    assert stage.get("server-groups/front")["ssl_certificate"] == "placeholder"
    check(stage.request("DELETE", "server-groups/front"), deleted)
