"""A stand-in for a service that says what a test wants: for what takes faults of real load balancers to come about."""

import http.server
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    """What web servers of tests have in common: they write no log, and say how long an answer is."""

    def say(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def web_server(handler: type[Handler]) -> Iterator[str]:
    """Run a web server on loopback; gives its URL."""
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def listening_service(
    status: int = 200, answer: bytes = b"", *, shows: Sequence[object] = ()
) -> Iterator[tuple[str, list[Any]]]:
    """Run a stand-in that answers every PUT and DELETE the same; gives its URL and what it was sent.

    shows: what the GETs are answered with, one after the other, the last one from then on; none: 404.
    """
    sent: list[Any] = []
    shown = list(shows)

    class Service(Handler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent.append((self.command, self.path, json.loads(body) if body else None))
            self.say(status, answer)

        do_PUT = do_DELETE = answer  # noqa: N815 - the base class's names

        def do_GET(self) -> None:
            document = shown.pop(0) if len(shown) > 1 else shown[0] if shown else {"message": "There is none."}
            self.say(200 if shown else 404, json.dumps(document).encode())

    with web_server(Service) as url:
        yield url, sent
