"""Requests of every kind on a real socket: bodies, queries, paths, headers, forms, and bytes that are no request."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.balancing import add_listener, attach
from api.material import Pair, make_leaf
from api.server import API, SECRETS, run_api
from fuzz.holding import Secrets, bounded, check_steady, hold
from fuzz.mutating import ODD_TEXTS, damaged_bytes, damaged_json, damaged_text, read_pem
from fuzz.raw_http import KEY, PATIENCE, send, write_json, write_request
from make import make_chain

V4 = "/api/v4.3/conf/prod"
NATIVE = "/api/certorbit/v1"
KEY_ID = "THE-ID-OF-A-KEY"  # replaced by the real one when the request is sent
KEPT = f"{NATIVE}/configs/prod/certificates/kept"
LB_REGIONS = {"lbs": [{"id": "edge-lb", "regions": {"fra": "automatic", "iad": "dc1"}}]}
GROUP = {"name": "a", "server_names": ["a.test"], "ssl_certificate": "kept", "client_certificate_mode": "off"}
CHAIN = make_chain(names=["fuzz.example.test"])
PAIR = Pair(CHAIN.leaf, CHAIN.key)
UPLOAD = {
    "cert_body": CHAIN.chain_pem,
    "private_key": CHAIN.key_pem,
    "side": "server",
    "id": "fuzzed",
    "le_auto_renew": True,
    "provider_links": [{"link": "arn:aws:acm:x", "provider": "aws", "region": "eu"}],
    "crl": [],
    "san": ["a"],
}
BODIES: list[tuple[str, str, list[Any]]] = [
    (
        "POST",
        f"{V4}/certificates/fuzzed",
        [UPLOAD, {**UPLOAD, "id": "", "side": "clientCA", "cert_body": CHAIN.issuers_pem, "private_key": ""}],
    ),
    ("POST", f"{V4}/certificates/made?domains=a.example.test", [{"side": "server", "le_auto_renew": False}]),
    ("POST", f"{V4}/server-groups", [{**GROUP, "id": "g1"}]),
    ("POST", f"{V4}/server-groups/g2", [GROUP]),
    ("PUT", f"{V4}/server-groups/__default__", [GROUP]),
    ("POST", f"{V4}/load-balancers/regions", [LB_REGIONS]),
    ("PUT", "/api/v4.3/tools/publish/prod", [[{"name": "b", "url": "file:///tmp/none"}], []]),
    ("PATCH", f"{KEPT}/renewal", [{"paused": True, "issuer": "fake"}]),
    ("POST", f"{KEPT}/renew", [{"issuer": "fake"}]),
    ("POST", f"{KEPT}/revoke", [{"reason": 4, "version": None}]),
    (
        "POST",
        f"{NATIVE}/api-keys",
        [{"name": "k", "role": "viewer", "may_export_keys": False, "expires_at": "2027-01-01T00:00:00Z"}],
    ),
    (
        "PATCH",
        f"{NATIVE}/api-keys/{KEY_ID}",
        [{"name": "k", "allowed_addresses": ["10.0.0.0/8"], "configurations": ["prod"]}],
    ),
    ("POST", f"{NATIVE}/api-keys/{KEY_ID}/rotate", [{"overlap_hours": 1}]),
    ("POST", f"{NATIVE}/maintenance", [{"on": False}]),
]
QUERIES: list[tuple[str, str, tuple[str, ...]]] = [
    (
        "POST",
        f"{V4}/certificates/made",
        ("domains=a.test", "domains=*.b.test", "domains=1.2.3.4", "domains=xn--bcher-kva.test"),
    ),
    ("PUT", f"{V4}/certificates/kept", ("le_auto_renew=true", "le_auto_replace=false", "replace_cert_id=placeholder")),
    ("GET", "/api/v4.3/conf/configs/prod/versions", ("limit=10", "before=5")),
    (
        "PUT",
        f"{V4}/load-balancers/edge-lb/certificates/kept",
        ("provider=link11", "region=", "listener=https", "listener-port=443", "default=true", "elbv2=true"),
    ),
    (
        "DELETE",
        f"{V4}/load-balancers/edge-lb/certificates",
        ("provider=link11", "certificate-id=kept", "listener=https", "listener-port=443"),
    ),
    ("GET", f"{NATIVE}/operations", ("limit=5", "cursor=id-1", "config=prod", "entry=kept", "state=running")),
    ("GET", f"{NATIVE}/deployments", ("limit=5", "cursor=id-1", "config=prod", "state=running")),
    ("GET", f"{NATIVE}/renewals", ("days=30", "limit=5")),
    ("GET", f"{KEPT}/revocation", ("version=id-000001",)),
    (
        "GET",
        f"{NATIVE}/audit",
        (
            "limit=5",
            "cursor=5",
            "config=prod",
            "who=x",
            "action=api-key.created",
            "from=2026-01-01T00:00:00Z",
            "to=2027-01-01T00:00:00Z",
        ),
    ),
    ("GET", f"{NATIVE}/audit/export", ("after=5",)),
]
PATHS = [
    "/api/v4.3/conf/{}/certificates",
    "/api/v4/conf/{}/certificates/{}",
    "/api/v4.0/conf/{}/certificates/{}/pem",
    "/api/v4.3/conf/{}/certificates/{}/pfx",
    "/api/v4.3/conf/{}/certificates/{}/links",
    "/api/v4.3/conf/configs/{}/versions/{}",
    "/api/v4.3/conf/configs/{}/versions/{}/revert",
    "/api/v4.3/conf/{}/server-groups/{}",
    "/api/v4.3/conf/{}/load-balancers/{}/certificates/{}",
    "/api/v4.3/tools/publish/{}",
    NATIVE + "/operations/{}/retry",
    NATIVE + "/deployments/{}",
    NATIVE + "/targets/{}/check",
    NATIVE + "/configs/{}/certificates/{}/versions/{}/compare/{}",
    NATIVE + "/configs/{}/certificates/{}/versions/{}/rollback",
    NATIVE + "/api-keys/{}",
    "/.well-known/acme-challenge/{}",
    "/{}",
    "/api/{}",
]
odd_texts = st.text(max_size=12) | st.sampled_from(
    [*ODD_TEXTS, "prod", "kept", "placeholder", "1", "__default__", "..", "x" * 300]
)
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "PROPFIND"]
SECRETS_HERE = Secrets([read_pem(CHAIN.key_pem)], list(SECRETS.values()))


ODD_BODIES = [b'{"a":' * 5_000, b"[" * 100_000, b'{"a":1,"a":2}', b"\xff\xfe{\x00}\x00"]
ODD_QUERY_VALUES = ["", "%", "%ff%00", "9" * 5000, "+-1", "1e400", "%F0%9D%9F%99"]


def escape(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def body_of(method: str, target: str, samples: list[Any]) -> st.SearchStrategy[bytes]:
    documents = damaged_json(samples).map(write_json)
    garbage = damaged_bytes([*map(write_json, samples), *ODD_BODIES])
    return (documents | documents | documents | garbage).map(lambda body: write_request(method, target, body=body))


def query_of(method: str, target: str, pairs: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    names = st.sampled_from([pair.partition("=")[0] for pair in pairs])
    values = odd_texts.map(escape) | damaged_text([pair.partition("=")[2] for pair in pairs]).map(escape)
    odd = (
        st.tuples(names, values | st.sampled_from(ODD_QUERY_VALUES)).map("=".join)
        | st.tuples(values, values).map("=".join)
        | names
        | names.map(lambda name: f"{name}[]=1")
    )
    valid = st.lists(st.sampled_from(pairs), max_size=5)
    return st.tuples(valid, odd, valid).map(
        lambda parts: write_request(method, f"{target}?{'&'.join([*parts[0], parts[1], *parts[2]])}")
    )


@st.composite
def paths(draw: st.DrawFn) -> bytes:
    template = draw(st.sampled_from(PATHS))
    segments = [escape(draw(odd_texts)) for _ in range(template.count("{}"))]
    target = template.format(*segments)
    if draw(st.integers(0, 5)) == 0:
        target = target.replace("%", draw(st.sampled_from(["%", "%25", "%2F", "//"]))) + draw(
            st.sampled_from(["", "/", "//", "/.", "?", "#x"])
        )
    return write_request(draw(st.sampled_from(METHODS)), target)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    method, target = draw(
        st.sampled_from(
            [
                ("GET", f"{V4}/certificates/kept"),
                ("GET", f"{V4}/certificates/kept/pfx"),
                ("POST", f"{V4}/certificates/fuzzed"),
                ("POST", "/api/v4.3/tools/certificates/extractpfx"),
                ("GET", "/metrics"),
            ]
        )
    )
    raw = st.binary(max_size=40).map(lambda value: value.replace(b"\n", b"").replace(b"\r", b""))
    value = raw | odd_texts.map(lambda text: text.replace("\r", "").replace("\n", ""))
    authorization = value | damaged_text([f"Basic {KEY}", f"Bearer {KEY}", "Basic dXNlcjpwYXNz", "Digest x"]).map(
        lambda text: text.replace("\r", "").replace("\n", "")
    )
    chosen = draw(
        st.lists(
            st.tuples(st.just("Authorization"), authorization)
            | st.tuples(
                st.sampled_from(
                    [
                        "X-PFX-Password",
                        "Content-Type",
                        "X-Forwarded-For",
                        "X-Request-ID",
                        "Accept",
                        "Range",
                        "Expect",
                        "If-None-Match",
                        "Transfer-Encoding",
                        "Content-Encoding",
                        "Upgrade",
                        "X-HTTP-Method-Override",
                    ]
                ),
                value,
            ),
            max_size=5,
        )
    )
    length = draw(
        st.sampled_from(
            ["", "", "", "0", "5", "-1", "1e3", "99999999999999999999", "9" * 5000, "0x10", "5, 5", "\u0661"]
        )
    )
    key = KEY if draw(st.booleans()) else ""
    return write_request(
        method,
        target,
        body=draw(st.sampled_from([b"", b"{}", b'5\r\n{"a":\r\n0\r\n\r\n'])),
        headers=chosen,
        key=key,
        length=length,
    )


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """Multipart bodies; a store among them would be opened by a process of its own, so theirs are none."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="fileName"; filename="a.pfx"\r\n'
        b"Content-Type: application/x-pkcs12\r\n\r\n0\x03\r\n"
        b'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\nsecret\r\n--b--\r\n'
    )
    kind = draw(
        st.sampled_from(["multipart/form-data; boundary=b"] * 5)
        | damaged_text(['multipart/form-data; boundary="b"', "multipart/form-data"]).map(
            lambda text: text.replace("\r", "").replace("\n", "")
        )
    )
    target = "/api/v4.0/tools/certificates/extractpfx"
    return write_request("POST", target, body=draw(damaged_bytes([body, body * 30])), headers=[("Content-Type", kind)])


RAW = [
    write_request("POST", f"{V4}/certificates/fuzzed", body=write_json(UPLOAD)),
    write_request("GET", f"{V4}/certificates"),
    write_request(
        "POST",
        f"{V4}/server-groups",
        body=b'9\r\n{"id":"x"\r\n1\r\n}\r\n0\r\n\r\n',
        headers=[("Transfer-Encoding", "chunked")],
    ),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]
ENTRY_POINTS = {
    "JSON bodies": st.one_of(*(body_of(*parts) for parts in BODIES)),
    "queries": st.one_of(*(query_of(*parts) for parts in QUERIES)),
    "paths": paths(),
    "headers": headers(),
    "forms": forms(),
    "bytes": damaged_bytes(RAW),
}


@dataclass
class Scene:
    """A server with something to hit. key_id: of an API key that nobody uses."""

    api: API
    key_id: str

    def send(self, request: bytes, *, patience: float = PATIENCE) -> tuple[int, bytes]:
        request = request.replace(KEY_ID.encode(), self.key_id.encode())
        is_whole = b"\r\n\r\n" in request  # else it is seldom worth while to wait for an answer
        status, text = send(self.api, request, patience=patience if is_whole else 0.0)
        if b"/maintenance " in request[:80] and status == 200:  # else nothing would be written any more
            assert self.api.call("POST", f"{NATIVE}/maintenance", document={"on": False}).status == 200
        return status, text

    def take_log(self) -> str:
        """Return what was logged since the last time."""
        logged = self.api.log_text.getvalue()
        self.api.log_text.seek(0)
        self.api.log_text.truncate()
        return logged

    def check(self, request: bytes) -> None:
        """Neither the answer nor the log is of a failure of ours, and no secret is in them."""
        status, text = self.send(request)
        shown, logged = text.decode("latin-1"), self.take_log()
        assert status < 500, shown
        assert "Traceback" not in logged + shown
        assert '"status": 5' not in logged
        assert '"status":5' not in logged
        leak = SECRETS_HERE.find_in(logged) or (SECRETS_HERE.find_in(shown) if status >= 400 else "")
        assert not leak, f"a piece of a secret is shown: {leak}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    # Wrong keys are tried as well, more of them than anybody may.
    with run_api(tmp_path_factory.mktemp("api"), access={"failures_per_minute": 10_000}) as running:
        add_listener(running, target="edge", load_balancer="edge-lb")
        assert running.upload("kept", make_leaf(running.ca, "kept.example.test")).status == 201
        attach(running, "kept")
        made = running.call("POST", f"{NATIVE}/api-keys", document={"name": "unused"})
        assert made.status == 201
        yield Scene(running, made.json["id"])


def test_what_is_fuzzed_is_understood_undamaged(scene: Scene) -> None:
    requests = [
        write_request(method, target, body=write_json(sample))
        for method, target, samples in BODIES
        for sample in samples
    ]
    requests += [write_request(method, f"{target}?{'&'.join(pairs)}") for method, target, pairs in QUERIES]
    statuses = [scene.send(request, patience=20)[0] for request in requests]
    # 400 and 404: some name what is not there (a bucket, a cursor, an unknown version).
    assert set(statuses) <= {200, 201, 202, 400, 404, 409}
    assert sum(status < 300 for status in statuses) > len(statuses) // 2


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_any_request_is_answered_and_never_by_a_failure_of_ours(name: str, scene: Scene) -> None:
    seen: list[bytes] = []

    @given(request=ENTRY_POINTS[name])
    @bounded()
    def check(request: bytes) -> None:
        if len(seen) < 50:
            seen.append(request)
        hold(lambda: scene.check(request), secrets=SECRETS_HERE)

    check()
    check_steady(scene.check, seen)
    assert scene.api.call("GET", "/healthz", key=None).status == 200
    assert scene.api.call("GET", f"{V4}/certificates/placeholder").status == 200
