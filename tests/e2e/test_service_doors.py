"""Who may come in, what watches the service, and that no secret leaves by the log."""

import json
from urllib.parse import quote

import pytest

from e2e.conftest import OddSite, Site
from e2e.service import BASE, Answer, Client
from make import make_chain

KEYS = "/api/certorbit/v1/api-keys"


@pytest.fixture
def issued(site: Site) -> str:
    """The id of a certificate with a key."""
    assert site.client.generate("doors", "doors.example.com").status == 201
    return "doors"


def make_key(site: Site, *, role: str, may_export_keys: bool) -> tuple[Client, str]:
    """Return a client with a new key of its own, and the key's id."""
    wanted = {"name": f"{role} {may_export_keys}", "role": role, "may_export_keys": may_export_keys}
    answer = site.client.request("POST", KEYS, wanted)
    assert answer.status == 201, answer.body
    site.deployment.secrets.add(answer.json["key"])
    return site.client.with_key(answer.json["key"]), answer.json["id"]


def assert_error(answer: Answer, status: int) -> None:
    assert answer.status == status, answer.body
    assert answer.json["code"] == status
    assert answer.json["message"]


def test_nobody_comes_in_without_a_known_key(site: Site, issued: str) -> None:
    for key in ("", "co_" + "x" * 43, site.client.key + "x"):
        client = site.client.with_key(key)
        for method, path in (
            ("GET", BASE),
            ("GET", f"{BASE}/{issued}/pem"),
            ("DELETE", f"{BASE}/{issued}"),
            ("POST", f"{BASE}/new?domains=new.example.com"),
            ("GET", KEYS),
            ("GET", "/metrics"),
            ("GET", "/api/no/such/path"),
        ):
            answer = client.request(method, path)
            assert_error(answer, 401)
            assert answer.headers["www-authenticate"]
    assert site.client.certificate(issued).status == 200


def test_a_reader_reads_and_changes_nothing(site: Site, issued: str) -> None:
    reader, _ = make_key(site, role="read-only", may_export_keys=False)
    entry = reader.certificate(issued).json
    assert entry["cert_body"].startswith("-----BEGIN CERTIFICATE-----")
    assert entry["private_key"] == ""
    assert {item["private_key"] for item in reader.certificates()} == {""}
    assert reader.get("/api/certorbit/v1/operations").status == 200
    for method, path in (
        ("GET", f"{BASE}/{issued}/pem"),
        ("GET", f"{BASE}/{issued}/pfx"),
        ("PUT", f"{BASE}/{issued}?le_auto_renew=false"),
        ("DELETE", f"{BASE}/{issued}"),
        ("POST", f"{BASE}/readers?domains=readers.example.com"),
        ("GET", KEYS),
        ("POST", KEYS),
    ):
        assert_error(reader.request(method, path), 403)
    assert site.client.certificate("readers").status == 404
    assert site.client.certificate(issued).json["le_auto_renew"] is True


def test_the_right_to_export_keys_is_one_of_its_own(site: Site, issued: str) -> None:
    exporter, _ = make_key(site, role="read-only", may_export_keys=True)
    writer, _ = make_key(site, role="admin", may_export_keys=False)
    pem = exporter.get(f"{BASE}/{issued}/pem")
    assert b"PRIVATE KEY" in pem.body
    assert exporter.certificate(issued).json["private_key"].encode() in pem.body
    assert_error(exporter.delete(issued), 403)
    assert_error(writer.get(f"{BASE}/{issued}/pem"), 403)
    assert writer.certificate(issued).json["private_key"] == ""
    assert writer.generate("writers", "writers.example.com").status == 201


def test_a_revoked_key_is_of_no_use(site: Site) -> None:
    client, key_id = make_key(site, role="admin", may_export_keys=True)
    assert client.get(BASE).status == 200
    assert site.client.request("DELETE", f"{KEYS}/{key_id}").status == 204
    assert_error(client.get(BASE), 401)


def test_watchers_need_no_key_and_learn_nothing(site: Site) -> None:
    nobody = site.client.with_key("")
    assert (nobody.get("/healthz").status, nobody.get("/healthz").json) == (200, {"message": "alive"})
    assert (nobody.get("/readyz").status, nobody.get("/readyz").json) == (200, {"message": "ready"})
    metrics = site.client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"# TYPE" in metrics.body
    assert site.client.key.encode() not in metrics.body


def test_openapi_describes_every_dialect(site: Site) -> None:
    answer = site.client.with_key("").get("/openapi.json")
    assert answer.status == 200
    described = answer.json
    assert described["openapi"].startswith("3.")
    for dialect in ("v4", "v4.0", "v4.3"):
        assert f"/api/{dialect}/conf/{{config}}/certificates/{{entry_id}}/pem" in described["paths"]
        assert site.client.get(f"/api/{dialect}/conf/prod/certificates").status == 200


def test_no_secret_is_in_the_log_whatever_clients_send(odd_site: OddSite) -> None:
    """The site logs at level debug. Its end repeats the search over everything that the other tests did."""
    good, other = make_chain(names=("good.example.com",)), make_chain(names=("other.example.com",), key_index=7)
    client, secrets = odd_site.client, odd_site.deployment.secrets
    secrets |= {line for pem in (good.key_pem, other.key_pem) for line in pem.splitlines()[1:-1]}
    secrets |= {"hunter2-pfx-password", "co_made-up-key-of-somebody-01234567890123456789"}
    assert client.upload("logged", good.chain_pem, good.key_pem).status == 201
    assert client.upload("mismatch", good.chain_pem, other.key_pem).status == 400
    assert client.upload("swapped", good.key_pem, good.chain_pem).status == 400
    assert client.upload("logged", good.chain_pem.replace("\n", "\r\n"), good.key_pem).status == 201
    assert client.upload("Bad_ID", good.chain_pem, good.key_pem).status == 422
    assert client.request("POST", f"{BASE}/odd", {"cert_body": 7, "private_key": [good.key_pem]}).status == 422
    assert client.generate("odd", good.key_pem).status == 400
    assert client.get(f"{BASE}?{quote(good.key_pem)}").status == 200
    pfx = client.request("GET", f"{BASE}/logged/pfx", headers={"X-PFX-Password": "hunter2-pfx-password"})
    assert pfx.status == 200
    stranger = client.with_key("co_made-up-key-of-somebody-01234567890123456789")
    assert stranger.get(BASE).status == 401
    assert client.generate("logged-too", "logged-too.example.com").status == 201
    secrets |= set(client.certificate("logged-too").json["private_key"].splitlines()[1:-1])
    refused = json.loads(client.upload("mismatch", good.chain_pem, other.key_pem).body)
    odd_site.service.wait_event("http.request", count=10)
    for text in (odd_site.service.log_text(), json.dumps(refused)):
        odd_site.deployment.check_log(text)
