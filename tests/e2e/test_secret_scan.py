"""A service does all that it can with keys, and what goes wrong goes wrong; then everything that is left is searched.

Private keys and API keys may be in the answers that export them, in the target's own files, and nowhere else: not in
the log (of level debug), the database and its journal, the data directory, the published bundle, errors or metrics.
"""

import base64
import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from psycopg import sql

from certorbit.model.material import PrivateKeyPEM
from certorbit.pki.pfx import make_pfx
from e2e.conftest import NewDeployment
from e2e.deployment import Deployment
from e2e.file_server import running_file_server
from e2e.leak_search import Needles, find_markers, read_folder
from e2e.service import API_KEY, BASE, Answer, Client, Service, free_port, wait_until
from make import make_chain, write_key

NATIVE = "/api/certorbit/v1"
EXPORTS = re.compile(r"/certificates(/[^/]+(/pem|/pfx)?)?$")  # of a dialect: what gives a key to who may export it
UPLOADED = make_chain(names=["up.example.com"], key="rsa-2048")
WRONG = make_chain(names=["wrong.example.com"], key_index=411)  # its key is put into every field but the right one
STORED = make_chain(names=["stored.example.com"], key_index=412)
PASSWORD = "correct-horse-battery-staple"


@dataclass
class Round:
    """One service and what is known of its secrets. errors: what was answered to wrong requests."""

    service: Service
    deployment: Deployment
    folder: Path
    needles: Needles = field(default_factory=Needles)
    errors: list[bytes] = field(default_factory=list)
    reader: str = ""  # an API key that reads and may not export

    @property
    def client(self) -> Client:
        return self.service.client

    def right(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        answer = self.client.request(method, path, body, headers)
        assert answer.status < 300, answer.body
        return answer

    def wrong(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> None:
        answer = self.client.request(method, path, body, headers)
        assert 400 <= answer.status < 500, (method, path[:60], answer.status)
        self.errors.append(answer.body + json.dumps(answer.headers).encode())

    def raw(self, method: str, path: str, body: bytes, kind: str) -> Answer:
        """Send bytes that are no JSON."""
        headers = {"Authorization": f"Basic {API_KEY}", "Content-Type": kind}
        request = urllib.request.Request(self.client.url + path, data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=40) as response:
                return Answer(response.status, response.read(), dict(response.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), dict(error.headers))


@pytest.fixture
def scanned(deploy: NewDeployment, tmp_path: Path) -> Iterator[Round]:
    port = free_port()
    table = {
        "type": "directory",
        "name": "files",
        "directory": str(tmp_path / "target"),
        "host": "127.0.0.1",
        "grace_seconds": 0.5,
        "listeners": [{"name": "web", "port": port}],
    }
    recipient = X25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    deployment = deploy(
        {
            "CERTORBIT_LOG_LEVEL": "debug",
            "CERTORBIT_TARGETS": json.dumps([table]),
            "CERTORBIT_PUBLISH__RECIPIENT_KEY": base64.b64encode(recipient).decode(),
            "CERTORBIT_PUBLISH__BUCKETS": json.dumps([{"name": "edge", "url": f"file://{tmp_path / 'edge'}"}]),
        }
    )
    (tmp_path / "edge").mkdir()
    with running_file_server(tmp_path / "target" / f"web-{port}", port=port):
        yield Round(deployment.serve(), deployment, tmp_path)


def test_no_secret_is_left_anywhere_but_where_it_belongs(scanned: Round) -> None:
    scanned.needles.add_text("the bootstrap API key", API_KEY)
    scanned.needles.add_text("the password of a store", PASSWORD)
    for name, chain in {"the uploaded key": UPLOADED, "a wrong key": WRONG, "another key": STORED}.items():
        scanned.needles.add_key(name, write_key(chain.key))
    use_keys(scanned)
    use_api_keys(scanned)
    ask_wrongly(scanned)
    learn_generated_keys(scanned)
    answers = dict(read_everything(scanned))
    assert len(answers) > 60

    crash(scanned)  # leaves the journal as it was, and would leave a core
    search(scanned, answers)
    scanned.service.start()  # and what is made when it comes back
    assert scanned.client.certificate("up").status == 200
    assert scanned.service.stop() == 0
    search(scanned, answers)


def use_keys(scanned: Round) -> None:
    """Upload, generate, renew, export, attach, publish, open a store."""
    client = scanned.client
    assert client.upload("up", UPLOADED.chain_pem, UPLOADED.traditional_key_pem).status == 201
    assert client.upload("stored", STORED.chain_pem + STORED.key_pem, "").status == 201
    for name in ("made", "renewed"):
        assert client.generate(name, f"{name}.example.com").status == 201
        client.wait_issued(name)
    learn_generated_keys(scanned)
    scanned.right("POST", f"{NATIVE}/configs/prod/certificates/renewed/renew", {})
    place = "provider=link11&listener=web&default=true"
    scanned.right("PUT", f"/api/v4.3/conf/prod/load-balancers/files/certificates/up?{place}")
    wait_until(lambda: list((scanned.folder / "target").rglob("*.pem")), what="the target's files")
    for entry in ("up", "made"):
        assert b"PRIVATE KEY-----" in scanned.right("GET", f"{BASE}/{entry}/pem").body
        scanned.right("GET", f"{BASE}/{entry}/pfx", headers={"X-PFX-Password": PASSWORD})
    site = {"id": "shop", "name": "shop", "server_names": ["up.example.com"], "ssl_certificate": "up"}
    scanned.right("POST", "/api/v4.3/conf/prod/server-groups", site)
    scanned.right("PUT", "/api/v4.3/tools/publish/prod", [])
    store = make_pfx(STORED.chain_pem, key=PrivateKeyPEM(STORED.key_pem), name="s", password=PASSWORD.encode())
    opened = extract(scanned, store, PASSWORD)
    assert opened.status == 200, opened.body
    assert b"PRIVATE KEY-----" in opened.body
    for answer in (extract(scanned, store, "wrong-password"), extract(scanned, store[:-90], PASSWORD)):
        assert answer.status == 400
        scanned.errors.append(answer.body)
    assert extract(scanned, WRONG.key_pem.encode(), PASSWORD).status == 400


def use_api_keys(scanned: Round) -> None:
    """Make keys, rotate one, use them, and keys that nobody knows."""
    keys = f"{NATIVE}/api-keys"
    made = scanned.right("POST", keys, {"name": "reader", "role": "viewer"}).json
    rotated = scanned.right("POST", f"{keys}/{made['id']}/rotate").json
    gone = scanned.right("POST", keys, {"name": "gone"}).json
    scanned.right("DELETE", f"{keys}/{gone['id']}")
    scanned.reader = rotated["key"]
    for name, key in {"a key": made["key"], "a rotated key": rotated["key"], "a revoked key": gone["key"]}.items():
        scanned.needles.add_text(name, key)
        answer = scanned.client.with_key(key).request("GET", f"{BASE}/up/pem")
        assert answer.status in {401, 403}
        scanned.errors.append(answer.body)
    nobody = "co_" + "n0b0dy" * 7 + "x"
    scanned.needles.add_text("a key that nobody knows", nobody)
    scanned.errors.append(scanned.client.with_key(nobody).get(BASE).body)
    scanned.wrong("GET", f"/api/v4.3/conf/{scanned.reader}/certificates")
    scanned.wrong("GET", f"{BASE}/up/renewal/{scanned.reader}?api_key={scanned.reader}")
    scanned.wrong("PATCH", f"{keys}/{made['id']}", {scanned.reader: "x", "allowed_addresses": [scanned.reader]})
    scanned.wrong("PATCH", f"{keys}/{made['id']}", {"allowed_addresses": [scanned.reader]})


def ask_wrongly(scanned: Round) -> None:
    """Put a private key into every field of requests that are refused."""
    key, quoted, line = WRONG.key_pem, quote(WRONG.key_pem), "".join(WRONG.key_pem.splitlines()[1:-1])
    path = f"{BASE}/wrong"
    for body in (
        {"cert_body": UPLOADED.chain_pem, "private_key": key},
        {"cert_body": key, "private_key": key},
        {"cert_body": WRONG.leaf_pem + key.replace("-----END", "----END"), "private_key": key},
        {"cert_body": f"-----BEGIN {line[:60]}-----\n", "private_key": key[:-30]},
        {"cert_body": UPLOADED.chain_pem, "private_key": key.replace("M", "?", 1)},
        {"cert_body": WRONG.leaf_pem, "private_key": key, "side": key},
        {"cert_body": WRONG.leaf_pem, "private_key": key, "id": key},
        {"cert_body": WRONG.leaf_pem, "private_key": [key], "le_auto_renew": key},
        {"cert_body": WRONG.chain_pem, "side": "clientCA", "private_key": key},
        {"cert_body": UPLOADED.issuers_pem, "side": "clientCA", "crl": [key]},
        {"cert_body": UPLOADED.issuers_pem, "side": "clientCA", "crl": key},
        {"provider_links": [{"link": key, "provider": key, "region": line}]},
        key,
    ):
        scanned.wrong("POST", path, body)
    for place in (
        f"{path}?domains={quoted}",
        f"{path}?domains={quote(line)}",
        f"/api/v4.3/conf/{quoted.replace('/', '%2F')}/certificates/x?domains=a.test",
        f"{BASE}/{quoted.replace('/', '%2F')}?domains=a.test",
    ):
        scanned.wrong("POST", place)
    scanned.wrong("PUT", f"{BASE}/up?replace_cert_id={quoted}")
    scanned.wrong("PUT", f"{BASE}/up?le_auto_renew={quoted}")
    scanned.wrong("POST", f"{NATIVE}/api-keys", {"name": "x", "role": key, key: 1, line: 2})
    scanned.wrong("POST", f"{NATIVE}/configs/prod/certificates/up/revoke", {"reason": 1, "version": key})
    scanned.wrong("PUT", "/api/v4.3/tools/publish/prod", [{"name": "edge", "url": f"file:///{quoted}"}])
    scanned.wrong("POST", "/api/v4.3/conf/prod/server-groups", {"id": key, "name": key, "ssl_certificate": line})
    scanned.wrong("GET", f"{NATIVE}/audit?who={quoted}")
    scanned.wrong("GET", f"{BASE}/up/pfx", headers={"X-PFX-Password": line * 3})
    for header in (f"Basic {line}", f"Bearer {line} {line}", line):
        answer = scanned.client.with_key("").request("GET", BASE, headers={"Authorization": header})
        assert answer.status == 401
        scanned.errors.append(answer.body)
    for body in (key.encode(), b'{"private_key": "' + json.dumps(key).encode()[1:60], b"\xff" + key.encode()):
        answer = scanned.raw("POST", path, body, "application/json")
        assert answer.status == 422
        scanned.errors.append(answer.body)


def extract(scanned: Round, store: bytes, password: str) -> Answer:
    part = b'--part\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = part % (b"fileName", b'; filename="a.pfx"', store) + part % (b"password", b"", password.encode())
    target = "/api/v4.3/tools/certificates/extractpfx"
    return scanned.raw("POST", target, body + b"--part--\r\n", "multipart/form-data; boundary=part")


def learn_generated_keys(scanned: Round) -> None:
    for item in scanned.client.certificates():
        if item["private_key"]:
            scanned.needles.add_key(f"the key of {item['id']}", item["private_key"])


def read_everything(scanned: Round) -> Iterator[tuple[str, bytes]]:
    """Yield every GET that the service has: as a reader without exports, and as who may export what isn't one."""
    document = scanned.client.get("/openapi.json").json
    reader = scanned.client.with_key(scanned.reader)
    operations = scanned.client.get(f"{NATIVE}/operations").json["items"]
    there = {"config": "prod", "entry_id": "up", "site_id": "shop", "number": "1", "token": "none"}
    there |= {"operation_id": operations[0]["id"]}
    versions = scanned.client.get(f"{NATIVE}/configs/prod/certificates/renewed/versions").json["items"]
    there |= {"before": versions[0]["id"], "after": versions[-1]["id"], "version_id": versions[0]["id"]}
    for template, item in document["paths"].items():
        if "get" not in item:
            continue
        path = re.sub(r"\{(\w+)\}", lambda found: there[found[1]], template)
        yield f"reader {path}", reader.get(path).body
        if not (path.startswith("/api/v4") and EXPORTS.search(urlsplit(path).path)):
            answer = scanned.client.get(path)
            assert answer.status < 500, path
            yield f"admin {path}", answer.body


def crash(scanned: Round) -> None:
    process = scanned.service.process
    assert process is not None
    process.send_signal(signal.SIGABRT)
    assert process.wait(timeout=30) == -signal.SIGABRT


def search(scanned: Round, answers: dict[str, bytes]) -> None:
    """Look through all that is left; the key-encryption key may be in its own file only."""
    data = scanned.deployment.data_dir
    key_file = data / "keyring" / "key-encryption-key"
    for text in key_file.read_text().split():
        scanned.needles.add_text("a key-encryption key", text)
    places: dict[str, bytes] = {"the log": scanned.service.log_text().encode(), **answers}
    places |= {f"error {number}": error for number, error in enumerate(scanned.errors)}
    places |= {f"data/{name}": content for name, content in read_folder(data, but=[key_file])}
    places |= {f"edge/{name}": content for name, content in read_folder(scanned.folder / "edge")}
    places |= dict(read_database(scanned.deployment.environment.get("CERTORBIT_DATABASE_URL", "")))
    assert not [name for name in places if re.search(r"/core(\.\d+)?$", name)]
    assert len(places["the log"]) > 10_000
    assert any(name.startswith("edge/") for name in places)
    found = {name: scanned.needles.find_in(content) + find_markers(content) for name, content in places.items()}
    assert not {name: what for name, what in found.items() if what}


def read_database(url: str) -> Iterator[tuple[str, bytes]]:
    """Yield every table of a PostgreSQL database, all columns as they are; SQLite's is a file of the data directory."""
    if not url:
        return
    name, host = re.fullmatch(r"postgresql\+psycopg://postgres@/(\w+)\?host=(.*)", url).groups()  # type: ignore[union-attr]
    with psycopg.connect(dbname=name, host=host, user="postgres", connect_timeout=10) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) > 10
        for schema, table in tables:
            rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))).fetchall()
            yield f"table {schema}.{table}", b"\n".join(_show(value) for row in rows for value in row)


def _show(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode("utf-8", "replace")


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    needles = Needles()
    needles.add_key("rsa", UPLOADED.key_pem)
    needles.add_key("ec", WRONG.key_pem)
    needles.add_text("api", API_KEY)
    numbers = WRONG.key.private_numbers().private_value.to_bytes(32, "big")
    for leak in (
        UPLOADED.key_pem[300:900].encode(),
        UPLOADED.traditional_key_pem[900:1100].encode(),
        json.dumps(WRONG.traditional_key_pem).encode(),
        numbers[3:],
        numbers.hex().encode(),
        API_KEY.encode(),
        base64.b64encode(b"user:" + API_KEY.encode()),
    ):
        (tmp_path / "leak").write_bytes(os.urandom(100) + leak + os.urandom(100))
        assert all(needles.find_in(content) for _, content in read_folder(tmp_path))
    assert find_markers(WRONG.key_pem.encode())
    assert needles.find_in(UPLOADED.chain_pem.encode() + WRONG.leaf_pem.encode()) == []
