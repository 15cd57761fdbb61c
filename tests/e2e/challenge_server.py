"""A small HTTP server that answers HTTP-01 from a MemoryStore, as the service's own door does from its store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from fakes.memory_store import MemoryStore


@asynccontextmanager
async def serve_challenges(store: MemoryStore, *, port: int) -> AsyncIterator[list[str]]:
    """Serve on loopback for the length of an `async with`; yields the tokens that were asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        token = request.match_info["token"]
        asked.append(token)
        challenge = store.challenges.get(token)
        if challenge is None:
            return web.Response(status=404)
        return web.Response(body=challenge.key_authorization.encode(), content_type="application/octet-stream")

    app = web.Application()
    app.router.add_get("/.well-known/acme-challenge/{token}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield asked
    finally:
        await runner.cleanup()
