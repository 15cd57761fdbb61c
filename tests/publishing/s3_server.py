"""S3 for tests: moto's server, with faults on demand in front."""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Lock, Thread
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

_NUMBERS = count(1)


class QuietHandler(MotoRequestHandler):
    def log_request(self, *_: object) -> None:
        """Print nothing."""


class Dropped(ConnectionResetError):
    """The client gets no answer; werkzeug lets it pass."""


@dataclass
class Fault:
    """What happens to the next `times` requests of a method whose path ends so.

    status, code: the answer; status 0: none, after the request was carried out. until: what the request waits for.
    """

    method: str
    ending: str
    status: int = 0
    code: str = ""
    times: int = 1
    until: Event | None = None
    seen: Event = field(default_factory=Event)


class S3Server:
    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()
        self.faults: list[Fault] = []
        self._server: BaseWSGIServer = make_server("127.0.0.1", 0, self, threaded=True, request_handler=QuietHandler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def make_bucket(self) -> str:
        name = f"edge-{next(_NUMBERS)}"
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        fault = self._take(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if fault is None:
            return self._moto(environ, start_response)
        fault.seen.set()
        if fault.until is not None:
            fault.until.wait(30)
            return self._moto(environ, start_response)
        if fault.status:
            body = f"<Error><Code>{fault.code}</Code><Message>as the test wants it</Message></Error>".encode()
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{fault.status} X", [("Content-Length", str(len(body)))])
            return [body]
        list(self._moto(environ, lambda *_: None))
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise Dropped

    def _take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and path.endswith(fault.ending):
                    fault.times -= 1
                    return fault
        return None
