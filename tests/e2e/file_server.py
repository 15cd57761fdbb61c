"""A TLS server on loopback that serves what a directory target writes: by its manifest, anew for each handshake."""

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileServer(socketserver.ThreadingTCPServer):
    """home: the listener's folder. port: where it listens."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, home: Path, *, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handshake)
        self.home = home

    def find_context(self, name: str | None) -> ssl.SSLContext | None:
        """Return what is served for the name (None: no name): its attached certificate, else the default."""
        try:
            manifest = json.loads((self.home / "manifest.json").read_text())
        except FileNotFoundError:
            return None
        attached = [path for path in manifest["attached"] if name in manifest["copies"][path]["names"]]
        if not (attached or manifest["default"]):
            return None
        place = self.home / "live" / attached[-1] if attached else self.home / "default"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place / manifest["files"]["fullchain"], place / manifest["files"]["key"])
        return context


class _Handshake(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, FileServer)
        connection: socket.socket = self.request
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def choose(asked: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
            found = server.find_context(name)
            if found is None:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            asked.context = found
            return None

        context.sni_callback = choose
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(1)
        except OSError:
            """The client went away, or was refused; both belong to the tests."""


@contextmanager
def running_file_server(home: Path, *, port: int) -> Iterator[FileServer]:
    """Run it until the block ends."""
    with FileServer(home, port=port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
