"""The API on a real server and a real SQLite, on a loopback socket, with a small client that shows all of an answer."""

import asyncio
import http.client
import io
import itertools
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from api.material import Pair, make_ca, make_leaf
from api.workflow import FakeWorkflow
from certorbit.api.app import make_app
from certorbit.api.parts import Parts
from certorbit.clock import SystemChance, SystemClock
from certorbit.keys.envelope import KEY_BYTES, KeyEncryptionKey
from certorbit.keys.keyring import LocalKeyring
from certorbit.model.access import KeyTerms, Role
from certorbit.model.identifiers import Identifier
from certorbit.model.material import Material, PrivateKeyPEM
from certorbit.observe.logs import set_up_logs
from certorbit.observe.metrics import Metrics
from certorbit.pki.read import read_facts
from certorbit.ports.store import UnitOfWork
from certorbit.services.api_keys import create_key
from certorbit.services.configurations import ensure_built_in
from certorbit.settings import Settings
from certorbit.storage.engine import make_engine
from certorbit.storage.migrate import migrate
from certorbit.storage.store import SQLStore
from fakes.clock import FakeClock

# Who may do what; the secrets are of the form that real ones have.
SECRETS = {
    "admin": "co_" + "A" * 43,
    "admin-no-export": "co_" + "B" * 43,
    "reader": "co_" + "C" * 43,
    "reader-export": "co_" + "D" * 43,
}
ROLES = {
    "admin": (Role.ADMIN, True),
    "admin-no-export": (Role.ADMIN, False),
    "reader": (Role.VIEWER, False),
    "reader-export": (Role.VIEWER, True),
}
CERTS = "/api/v4.0/conf/prod/certificates"


class FakeIssuer:
    """What the API asks of an issuer."""

    def __init__(self, *, name: str, directory: str, can_issue_wildcards: bool) -> None:
        self.name = name
        self.directory = directory
        self.can_issue_wildcards = can_issue_wildcards

    def covers(self, identifier: Identifier) -> bool:
        return self.can_issue_wildcards or not identifier.is_wildcard


class FakeAuthority:
    def __init__(self, root: Pair) -> None:
        self._root = root

    async def root_pem(self) -> str:
        return self._root.cert_pem

    async def crl_der(self) -> bytes:
        return b"\x30\x00"


class Readiness:
    """What `check_ready` does: raises `problem` if there is one."""

    def __init__(self) -> None:
        self.problem: Exception | None = None

    async def __call__(self) -> None:
        if self.problem is not None:
            raise self.problem


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class API:
    """A running API. `call` speaks to it as the named key (None: without one)."""

    port: int
    parts: Parts
    clock: FakeClock
    workflow: FakeWorkflow
    ready: Readiness
    ca: Pair
    log_text: io.StringIO
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_name(self) -> str:
        """Return an entry id that no other test uses."""
        return f"entry-{next(self._numbers)}"

    def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = "admin",
        body: bytes | None = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = {"Authorization": f"Basic {SECRETS[key]}"} if key else {}
        if document is not None:
            body = json.dumps(document).encode()
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers={**sent, **(headers or {})})
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        finally:
            connection.close()

    def upload(self, entry_id: str, leaf: Pair, *, path: str = CERTS, **fields: object) -> Answer:
        document = {"cert_body": leaf.cert_pem + self.ca.cert_pem, "private_key": leaf.key_pem, **fields}
        return self.call("POST", f"{path}/{entry_id}", document=document)

    def generate(self, entry_id: str, *names: str, path: str = CERTS, **fields: object) -> Answer:
        query = "&".join(f"domains={name}" for name in names)
        return self.call("POST", f"{path}/{entry_id}?{query}", document=fields or None)

    def log_events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_text.getvalue().splitlines()]


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()


@contextmanager
def serve(app: Any) -> Iterator[int]:
    """Run an ASGI application in a thread until the block ends; gives its port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        assert server.listening.wait(timeout=20), "the server did not start"
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


@contextmanager
def run_api(
    directory: Path,
    *,
    issuers: tuple[FakeIssuer, ...] | None = None,
    **settings: Any,
) -> Iterator[API]:
    """Run the API on a new database in the directory until the block ends. settings: fields of `Settings`."""
    clock, keyring, ca = FakeClock(), LocalKeyring([KeyEncryptionKey(os.urandom(KEY_BYTES))]), make_ca()
    workflow = FakeWorkflow(ca=ca, keyring=keyring)
    engine = make_engine(f"sqlite:///{directory / 'api.db'}")
    migrate(engine)
    store = SQLStore(engine, clock=SystemClock(), chance=SystemChance(), enqueue=workflow.enqueue)
    workflow.store = store
    ready, numbers = Readiness(), itertools.count(1)
    parts = Parts(
        settings=Settings(data_dir=directory, **settings),
        clock=clock,
        store=store,
        keyring=keyring,
        new_id=lambda: f"id-{next(numbers):06}",
        watch=workflow,
        steps=workflow,
        issuers=issuers
        if issuers is not None
        else (FakeIssuer(name="fake", directory="https://ca.example.test/directory", can_issue_wildcards=False),),  # type: ignore[arg-type]
        authority=FakeAuthority(ca),
        check_ready=ready,
        metrics=Metrics(),
    )
    with captured_logs() as log_text, serve(make_app(parts)) as port:
        _fill(parts)
        yield API(port, parts, clock, workflow, ready, ca, log_text)
    engine.dispose()


def _fill(parts: Parts) -> None:
    """Write what a new database holds, and the test's keys, from a loop of our own."""
    leaf = make_leaf(make_ca(), "placeholder.invalid")
    placeholder = Material(leaf.cert_pem, PrivateKeyPEM(leaf.key_pem), read_facts(leaf.certificate))

    def fill(tx: UnitOfWork) -> None:
        now = parts.clock.now()
        ensure_built_in(tx, lambda: placeholder, now=now, new_id=parts.new_id, keyring=parts.keyring)
        for name, (role, may_export) in ROLES.items():
            create_key(
                tx,
                KeyTerms(name=name, role=role, may_export_keys=may_export),
                now=now,
                new_id=parts.new_id,
                secret=SECRETS[name],
            )

    asyncio.run(parts.store.write(fill))


@contextmanager
def captured_logs() -> Iterator[io.StringIO]:
    """Send the process's logs into a text until the block ends."""
    root = logging.getLogger()
    handlers, level, text = root.handlers[:], root.level, io.StringIO()
    before = structlog.get_config()
    set_up_logs(level="debug", style="json", stream=text)
    try:
        yield text
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)
