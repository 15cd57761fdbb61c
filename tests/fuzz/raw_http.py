"""Requests as bytes, whatever is in them, on a real server's socket."""

import json
import select
import socket
from collections.abc import Sequence
from typing import Any

from api.server import API, SECRETS

KEY = SECRETS["admin"]
PATIENCE = 0.03  # seconds for the first bytes of an answer; what comes later still is in the log
Header = tuple[str, str | bytes]


def write_request(
    method: str, target: str, *, body: bytes = b"", headers: Sequence[Header] = (), key: str = KEY, length: str = ""
) -> bytes:
    """Return a request with these headers as they stand. length: what Content-Length says; "": the truth."""
    announced = [("Content-Length", length or str(len(body)))] if body or length else []
    fields: list[Header] = [("Host", "certorbit.test"), ("Connection", "close"), *announced, *headers]
    if key:
        fields.append(("Authorization", f"Basic {key}"))
    lines = [name.encode("latin-1", "replace") + b": " + _raw(value) for name, value in fields]
    return b"\r\n".join([f"{method} {target} HTTP/1.1".encode("utf-8", "surrogatepass"), *lines, b"", body])


def write_json(document: Any) -> bytes:
    """Return the document as Python writes it: with NaN, huge numbers and escaped surrogates, which JSON can't all."""
    return json.dumps(document).encode()


def send(api: API, request: bytes, *, patience: float = PATIENCE) -> tuple[int, bytes]:
    """Return status and all that was answered; 0: the server closed the connection without a word.

    patience: seconds until nothing more is promised to come.
    """
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        answer = b""
        try:
            connection.sendall(request)
            # Whoever promised more than that doesn't send it. A complete request is not cut off: then an answer that
            # is under way would be lost.
            if not select.select([connection], [], [], patience)[0]:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # the server had seen enough before it had read all
    words = answer.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/1.") else 0), answer


def _raw(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
