"""The service's own HTTPS: from the self-signed start to renewals, and who gets in. docs/tls.md says the same."""

import http.client
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from certorbit.net.server_tls import CIPHERS
from e2e.deployment import body_lines
from e2e.https_service import HTTPSService, fingerprint_of, load, make_house, trust_all
from e2e.service import API_KEY, BASE, Client, free_port, wait_until
from make import pem
from programs import require_program

LOOK = {"CERTORBIT_TLS__LOOK_SECONDS": "0.1", "CERTORBIT_TLS__CERTIFICATE": "prod/api"}
NATIVE = "/api/certorbit/v1/configs/prod/certificates"


class Starter:
    """Starts services on one empty database, with temporary files in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services: list[HTTPSService] = []

    def __call__(self, settings: dict[str, str], *, shows: Path | None = None) -> HTTPSService:
        data, temporary = self.folder / "data", self.folder / "temporary"
        data.mkdir(exist_ok=True)
        temporary.mkdir(exist_ok=True)
        service = HTTPSService(data, {**LOOK, "TMPDIR": str(temporary), **settings}, shows=shows)
        self.services.append(service)
        service.start()
        return service

    def stop(self) -> None:
        codes = {service.stop() for service in self.services}
        assert codes <= {0}, codes
        for service in self.services:
            assert API_KEY not in service.log_text()
            assert "PRIVATE KEY" not in service.log_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    starter.stop()


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HTTPSService]:
    """A service whose certificate is not there yet, for tests that change nothing."""
    starter = Starter(tmp_path_factory.mktemp("https"))
    yield starter({})
    starter.stop()


def operator(url: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run `certorbit … versions prod api` as an operator does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
    environment |= {"CERTORBIT_URL": url, "CERTORBIT_API_KEY": API_KEY}
    command = [sys.executable, "-m", "certorbit", *options, "versions", "prod", "api", "--json"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_service_gets_its_certificate_from_itself_and_renews_it_under_load(start: Starter, tmp_path: Path) -> None:
    service = start({})
    own = service.self_signed()
    assert service.served() == own

    client = service.client
    with load(service.port) as seen:
        seen.wait_more(20)
        assert seen.fingerprints == {own}
        assert client.generate("api", "api.example.test", "127.0.0.1").status == 201
        client.wait_issued("api")
        first = current(service)
        service.wait_served(first)
        assert service.served() == first
        seen.wait_more(20)

        assert client.request("POST", f"{NATIVE}/api/renew", {"issuer": ""}).status == 202
        second = wait_until(lambda: (now := current(service)) != first and now, what="renewed")
        service.wait_served(second)
        assert service.served() == second
        seen.wait_more(20)
    assert seen.failures == []
    assert {own, first, second} <= seen.fingerprints

    answer = client.get("/healthz")
    assert answer.headers["strict-transport-security"] == "max-age=63072000"
    root = tmp_path / "root.pem"
    root.write_bytes(client.get("/api/certorbit/v1/issuers/internal/root.pem").body)
    check_operator(client.url, root, second=second, own=own)
    check_no_key_left(service, tmp_path)


def current(service: HTTPSService) -> str:
    """Return the fingerprint of the entry's current version."""
    versions = service.client.get(f"{NATIVE}/api/versions").json["items"]
    found: str = next(version["fingerprint"] for version in versions if version["is_current"])
    return found


def check_operator(url: str, root: Path, *, second: str, own: str) -> None:
    """The operator's commands reach the service they mean, and nobody else gets their key."""
    assert operator(url, "--ca-file", str(root)).returncode == 0
    assert operator(url, "--fingerprint", f"sha256:{second.upper()}").returncode == 0
    for wrong in ((), ("--ca-file", str(root), "--fingerprint", f"sha256:{own}")):
        refused = operator(url, *wrong)
        assert refused.returncode == 1
        assert "docs/tls.md" in refused.stderr


def check_no_key_left(service: HTTPSService, tmp_path: Path) -> None:
    """No key is in a file, a database or a temporary file, nor in memory that stands open under a name."""
    lines = {line for line in body_lines(service.client.certificate("api").json["private_key"]) if len(line) == 64}
    assert lines
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".db" for file in files)
    for file in files:
        content = file.read_bytes()
        assert b"PRIVATE KEY" not in content, file
        assert not [line for line in lines if line.encode() in content], file
    assert list((tmp_path / "temporary").iterdir()) == []
    assert service.process is not None
    with suppress(PermissionError, FileNotFoundError):  # the process hides its own from all but root; no /proc at all
        links = [str(file.readlink()) for file in Path("/proc", str(service.process.pid), "fd").iterdir()]
        assert not [link for link in links if "certorbit-tls" in link]


def test_only_the_profiles_versions_and_ciphers_are_spoken(self_signed: HTTPSService, tmp_path: Path) -> None:
    openssl, service = require_program("openssl"), self_signed
    with old_server(openssl, tmp_path) as old_port:
        for version in ("-tls1", "-tls1_1"):
            options = (version, "-cipher", "ALL:@SECLEVEL=0")
            assert "Cipher is (NONE)" not in s_client(openssl, old_port, *options), "this client can't speak it at all"
            assert "Cipher is (NONE)" in s_client(openssl, service.port, *options)
    assert "ALPN protocol: http/1.1" in s_client(openssl, service.port, "-tls1_3", "-alpn", "h2,http/1.1")

    every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    names = [cipher["name"] for cipher in every.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert len(names) > 20
    accepted = {name for name in names if can_speak(service.port, name)}
    assert accepted == {name for name in CIPHERS if "ECDSA" in name}  # the self-signed certificate's kind of key


@contextmanager
def old_server(openssl: str, folder: Path) -> Iterator[int]:
    """Run a server that still takes TLS 1.0 and 1.1; gives its port."""
    certificate, port = make_house(1).write(folder, "old.example.test"), free_port()
    server = subprocess.Popen(
        [openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(certificate), "-cipher", "ALL:@SECLEVEL=0"],
        stdin=subprocess.PIPE,  # it ends when its input does
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENSSL_CONF": "/dev/null"},
    )
    try:
        wait_until(lambda: is_open(port), what="the old server listens")
        yield port
    finally:
        server.kill()
        server.communicate()


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


def can_speak(port: int, cipher: str) -> bool:
    context = trust_all(highest=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            with context.wrap_socket(connection):
                return True
        except (ssl.SSLError, ConnectionError):
            return False


def s_client(openssl: str, port: int, *options: str) -> str:
    """Return what OpenSSL's client says; without the distribution's own settings, which forbid it old versions."""
    done = subprocess.run(
        [openssl, "s_client", "-connect", f"127.0.0.1:{port}", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "OPENSSL_CONF": "/dev/null"},
        check=False,
    )
    return done.stdout + done.stderr


def test_a_plain_request_to_the_https_port_is_ended_at_once_and_others_go_on(self_signed: HTTPSService) -> None:
    for words in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\x00" * 600, b"\r\n" * 100):
        with socket.create_connection(("127.0.0.1", self_signed.port), timeout=10) as connection:
            connection.sendall(words)
            received = b""
            try:
                while piece := connection.recv(4096):  # a hang ends in a time-out, which fails
                    received += piece
            except ConnectionResetError:
                pass
            assert b"HTTP/" not in received
    assert self_signed.client.get("/readyz").status == 200


def test_an_operator_who_writes_http_is_told_that_https_answers(self_signed: HTTPSService) -> None:
    said = operator(f"http://127.0.0.1:{self_signed.port}")
    assert said.returncode == 1
    assert f"What answers there speaks HTTPS: write https://127.0.0.1:{self_signed.port}" in said.stderr
    assert "Is the service running" not in said.stderr


def test_client_certificates_are_asked_for_checked_and_logged(start: Starter, tmp_path: Path) -> None:
    ours, theirs = make_house(1), make_house(2)
    server, key = ours.issue("api.example.test", key="rsa-2048")
    (tmp_path / "server.pem").write_text(server)
    (tmp_path / "server.key").write_text(key)
    (tmp_path / "clients.pem").write_text(pem(ours.root))
    edge = ours.write(tmp_path, "edge-1.example.test")
    stranger = theirs.write(tmp_path, "edge-2.example.test")
    service = start(
        {
            "CERTORBIT_TLS__CERTIFICATE_FILE": str(tmp_path / "server.pem"),
            "CERTORBIT_TLS__KEY_FILE": str(tmp_path / "server.key"),
            "CERTORBIT_TLS__CLIENT_CERTIFICATES": "required",
            "CERTORBIT_TLS__CLIENT_CA": "prod/clients",
            "CERTORBIT_TLS__CLIENT_CA_FILE": str(tmp_path / "clients.pem"),
            "CERTORBIT_HTTP01_LISTEN": f"127.0.0.1:{(challenges := free_port())}",
        },
        shows=edge,
    )
    client = service.client

    assert client.with_key("").get(BASE).status == 401  # the certificate alone gives no right
    assert client.get(BASE).status == 200
    line = service.wait_event("http.request", count=2)
    assert line["client_subject"] == "O=Example, CN=edge-1.example.test"
    assert line["client_san"] == "edge-1.example.test, 127.0.0.1"
    assert len(line["client_fingerprint"]) == 64
    for other in (None, stranger, ours.write(tmp_path, "edge-3.example.test", days=-1)):
        assert not gets_in(service.port, other)

    plain = Client(f"http://127.0.0.1:{challenges}", key="")  # CAs have no client certificate, and ask in plain HTTP
    assert plain.get("/.well-known/acme-challenge/unknown").status == 404

    # The entry takes the file's place as soon as there is one: other clients are good, and what was open ends.
    kept = http.client.HTTPSConnection("127.0.0.1", service.port, timeout=20, context=trust_all(shows=edge))
    assert ask(kept) == 200
    upload = client.request(
        "POST", f"{BASE}/clients", {"cert_body": pem(theirs.root), "side": "clientCA", "private_key": ""}
    )
    assert upload.status == 201, upload.body
    service.wait_event("tls.serving", count=2)
    wait_until(lambda: gets_in(service.port, stranger), what="the entry's clients get in")
    assert not gets_in(service.port, edge)
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(kept)
    kept.close()
    assert fingerprint_of(service.port, stranger) == service.events("tls.serving")[0]["fingerprint"]


def ask(connection: http.client.HTTPSConnection) -> int:
    connection.auto_open = 0 if connection.sock is not None else 1  # one connection, never a second one
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def gets_in(port: int, shows: Path | None) -> bool:
    """Return whether a request is answered. In TLS 1.3 a refusal shows only after the handshake."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trust_all(shows=shows, highest=version)
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
                context.wrap_socket(connection) as tls,
            ):
                tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if not tls.recv(100).startswith(b"HTTP/1.1 200"):
                    return False
        except (ssl.SSLError, ConnectionError):
            return False
    return True
