"""A stand-in for a service that says what a test wants: for what takes faults of real load balancers to come about."""

import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def listening_service(
    status: int = 200, answer: bytes = b"", *, shows: Sequence[object] = ()
) -> Iterator[tuple[str, list[Any]]]:
    """Run a stand-in that answers every PUT and DELETE the same; gives its URL and what it was sent.

    shows: what the GETs are answered with, one after the other, the last one from then on; none: 404.
    """
    sent: list[Any] = []
    shown = list(shows)

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent.append((self.command, self.path, json.loads(body) if body else None))
            self.say(status, answer)

        do_PUT = do_DELETE = answer  # noqa: N815 - the base class's names

        def do_GET(self) -> None:
            document = shown.pop(0) if len(shown) > 1 else shown[0] if shown else {"message": "There is none."}
            self.say(200 if shown else 404, json.dumps(document).encode())

        def say(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
