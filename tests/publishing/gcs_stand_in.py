"""A stand-in for Cloud Storage's XML API, as far as obstore uses it; it refuses every request that it doesn't know.

gcp-storage-emulator has of the XML API only PUT and GET of objects: no lists, no deletion, no preconditions.
"""

from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 3  # objects of a page of a list, so that tests see more than one


class GCSStandIn:
    """objects: content and generation by `bucket/name`."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.buckets = {"edge"}
        self.lock = Lock()
        self.generation = 1000
        outer = self

        class Handler(_Handler):
            stand_in = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: GCSStandIn

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        key, query = self._where()
        with self.stand_in.lock:
            present = self.stand_in.objects.get(key, (b"", 0))[1]
            wanted = self.headers.get("x-goog-if-generation-match")
            if query:
                self._refuse(400, "NotOfTheStandIn")
            elif wanted is not None and int(wanted) != present:
                self._refuse(412, "PreconditionFailed")
            else:
                self.stand_in.generation += 1
                self.stand_in.objects[key] = (content, self.stand_in.generation)
                self._answer(200, b"", content, self.stand_in.generation)

    def do_GET(self) -> None:
        key, query = self._where()
        with self.stand_in.lock:
            if query.get("list-type") == ["2"]:
                self._list(key.rstrip("/"), query)
            elif key in self.stand_in.objects:
                content, generation = self.stand_in.objects[key]
                self._answer(200, content, content, generation)
            else:
                self._refuse(404, "NoSuchKey")

    def do_DELETE(self) -> None:
        key, _ = self._where()
        with self.stand_in.lock:
            if self.stand_in.objects.pop(key, None) is None:
                self._refuse(404, "NoSuchKey")
            else:
                self._answer(204, b"", b"", 0)

    def _where(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return unquote(parts.path).removeprefix("/"), parse_qs(parts.query)

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        if bucket not in self.stand_in.buckets:
            self._refuse(404, "NoSuchBucket")
            return
        prefix = f"{bucket}/{query.get('prefix', [''])[0]}"
        after = query.get("continuation-token", [""])[0]
        found = sorted(key for key in self.stand_in.objects if key.startswith(prefix) and key > after)
        items = "".join(
            f"<Contents><Key>{escape(key.partition('/')[2])}</Key><Size>{len(self.stand_in.objects[key][0])}</Size>"
            '<LastModified>2026-11-24T12:00:00.000Z</LastModified><ETag>"x"</ETag></Contents>'
            for key in found[:PAGE]
        )
        more = f"<NextContinuationToken>{escape(found[PAGE - 1])}</NextContinuationToken>" if found[PAGE:] else ""
        body = f"<ListBucketResult>{more}{items}</ListBucketResult>".encode()
        self._answer(200, body, b"", 0)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), b"", 0)

    def _answer(self, status: int, body: bytes, content: bytes, generation: int) -> None:
        bucket = self._where()[0].partition("/")[0]
        if bucket not in self.stand_in.buckets and status < 300:
            status, body = 404, b"<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>"
        self.send_response(status)
        self.send_header("ETag", f'"{md5(content).hexdigest()}"')
        self.send_header("x-goog-generation", str(generation))
        self.send_header("Last-Modified", "Tue, 24 Nov 2026 12:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
