"""Joins the routes and what stands around them to one ASGI application."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from starlette.middleware import Middleware

import certorbit
from certorbit.api.api_keys import add_api_key_routes
from certorbit.api.authentication import Authenticate, KnownKeys
from certorbit.api.balancers import add_balancer_routes
from certorbit.api.certificates import add_certificate_routes
from certorbit.api.challenges import add_challenge_routes
from certorbit.api.configuration_versions import add_configuration_version_routes
from certorbit.api.configurations import add_configuration_routes
from certorbit.api.deployments import add_deployment_routes
from certorbit.api.errors import Guard, register_error_handlers
from certorbit.api.health import add_health_routes
from certorbit.api.issuers import add_issuer_routes
from certorbit.api.middleware import BodyLimit, Maintenance, Observe, SecureHeaders, TidyRequest
from certorbit.api.openapi import add_openapi_routes
from certorbit.api.operations import add_operation_routes
from certorbit.api.parts import Parts
from certorbit.api.publish import add_publish_routes
from certorbit.api.regions import add_region_routes
from certorbit.api.renewals import add_renewal_routes
from certorbit.api.sites import add_site_routes
from certorbit.api.tools import add_tool_routes
from certorbit.api.versions import add_version_routes

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def make_app(parts: Parts, *, lifespan: Lifespan | None = None) -> FastAPI:
    """Return the API. lifespan: runs around the server's life, for the caller's own parts."""
    known_keys = KnownKeys(store=parts.store, clock=parts.clock)
    app = FastAPI(
        title="Certorbit",
        version=certorbit.__version__,
        openapi_url=None,  # ours: api/openapi.py
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # TidyRequest
        lifespan=lifespan,
        middleware=[
            # From the outside in. Nothing of a body is read before the key is known, and nothing is written in
            # maintenance; every refusal on the way is answered by Guard, with headers, and logged.
            Middleware(TidyRequest),
            Middleware(Observe, metrics=parts.metrics, new_id=parts.new_id),
            Middleware(SecureHeaders),
            Middleware(Guard),
            Middleware(Authenticate, known_keys=known_keys),
            Middleware(Maintenance, on=parts.settings.maintenance),
            Middleware(BodyLimit, most_bytes=parts.settings.max_body_bytes),
        ],
    )
    register_error_handlers(app)
    add_certificate_routes(app, parts)
    add_configuration_routes(app, parts)
    add_configuration_version_routes(app, parts)
    add_site_routes(app, parts)
    add_region_routes(app, parts)
    add_publish_routes(app, parts)
    add_tool_routes(app)
    add_balancer_routes(app, parts)
    add_operation_routes(app, parts)
    add_deployment_routes(app, parts)
    add_renewal_routes(app, parts)
    add_version_routes(app, parts)
    add_issuer_routes(app, parts)
    add_api_key_routes(app, parts, known_keys=known_keys)
    add_challenge_routes(app, parts)
    add_health_routes(app, parts)
    add_openapi_routes(app)
    return app
