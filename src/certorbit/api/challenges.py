"""Answers HTTP-01 challenges (RFC 8555 §8.3) from the shared store, so that any node can give them."""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Path
from starlette.responses import Response
from starlette.types import ASGIApp

from certorbit.api.documentation import PUBLIC, errors_of
from certorbit.api.errors import Guard, register_error_handlers
from certorbit.api.middleware import Observe, SecureHeaders, TidyRequest
from certorbit.api.parts import Parts
from certorbit.errors import NotFound

PATH = "/.well-known/acme-challenge/{token}"
_TOKEN = re.compile("[A-Za-z0-9_-]{1,256}")  # RFC 8555 §8.1: base64url without padding; CAs use 22 to 43 characters


@dataclass(frozen=True, slots=True)
class ChallengeRoutes:
    """The endpoint."""

    parts: Parts

    async def get_challenge(self, token: Annotated[str, Path(description="The challenge's token")]) -> Response:
        """Answer an HTTP-01 challenge"""
        challenge = None
        if _TOKEN.fullmatch(token):
            challenge = await self.parts.store.read(lambda tx: tx.challenges.find(token))
        if challenge is None:
            raise NotFound("There is no challenge with this token here.", subject="token")
        return Response(challenge.key_authorization, media_type="application/octet-stream")


def add_challenge_routes(app: FastAPI, parts: Parts) -> None:
    """Add the path that CAs look at."""
    content = {"application/octet-stream": {"schema": {"type": "string"}}}
    app.add_api_route(
        PATH,
        ChallengeRoutes(parts).get_challenge,
        methods=["GET"],
        responses={200: {"description": "The key authorization", "content": content}, **errors_of(404, 500, 503)},
        response_class=Response,
        operation_id="get_challenge",
        tags=["Challenges"],
        openapi_extra=PUBLIC,
    )


def make_challenge_app(parts: Parts) -> ASGIApp:
    """Return an application that answers challenges and nothing else, for the listener of `HTTP01_LISTEN`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    register_error_handlers(app)
    add_challenge_routes(app, parts)
    app.add_middleware(Guard)
    app.add_middleware(SecureHeaders)
    app.add_middleware(Observe, metrics=parts.metrics, new_id=parts.new_id)
    app.add_middleware(TidyRequest)  # the outermost
    return app
