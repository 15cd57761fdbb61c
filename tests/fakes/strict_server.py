"""What stand-ins for providers' APIs have in common: a server on loopback to which an unknown request is a failed test."""

import ssl
from typing import Self

from aiohttp import web


class StrictServer:
    """unexpected: what was asked for that the stand-in doesn't know; the block that it is used in fails then.

    most_bytes: of a request's body.
    """

    most_bytes = 2**20

    def __init__(self) -> None:
        self.url = ""
        self.unexpected: list[str] = []
        self._runner: web.AppRunner | None = None

    def make_tls(self) -> ssl.SSLContext | None:
        """Return what it serves HTTPS with; None: plain HTTP."""
        return None

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, whatever its method and path."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=self.most_bytes)
        app.router.add_route("*", "/{path:.*}", self.take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        tls = self.make_tls()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        assert not self.unexpected, self.unexpected
