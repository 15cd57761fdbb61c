"""Joins the routes and what stands around them to one ASGI application."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from starlette.middleware import Middleware

import certorbit
from certorbit.api.api_keys import add_api_key_routes
from certorbit.api.audit import add_audit_routes
from certorbit.api.authentication import Authenticate
from certorbit.api.balancers import add_balancer_routes
from certorbit.api.certificates import add_certificate_routes
from certorbit.api.challenges import add_challenge_routes
from certorbit.api.configuration_versions import add_configuration_version_routes
from certorbit.api.configurations import add_configuration_routes
from certorbit.api.deployments import add_deployment_routes
from certorbit.api.errors import Guard, register_error_handlers
from certorbit.api.health import add_health_routes
from certorbit.api.issuers import add_issuer_routes
from certorbit.api.keyring import add_keyring_routes
from certorbit.api.known_keys import KnownKeys
from certorbit.api.maintenance import MaintenanceSwitch, add_maintenance_routes
from certorbit.api.middleware import BodyLimit, Maintenance, Observe, SecureHeaders, TidyRequest
from certorbit.api.openapi import add_openapi_routes
from certorbit.api.operations import add_operation_routes
from certorbit.api.parts import Parts
from certorbit.api.publish import add_publish_routes
from certorbit.api.refused_attempts import RecordRefusals, RefusedAttempts
from certorbit.api.regions import add_region_routes
from certorbit.api.renewals import add_renewal_routes
from certorbit.api.revocation import add_revocation_routes
from certorbit.api.sessions import add_session_routes
from certorbit.api.sign_in import add_sign_in_routes, make_sign_in
from certorbit.api.sites import add_site_routes
from certorbit.api.tools import add_tool_routes
from certorbit.api.versions import add_version_routes

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def make_app(parts: Parts, *, lifespan: Lifespan | None = None) -> FastAPI:
    """Return the API. lifespan: runs around the server's life, for the caller's own parts."""
    access = parts.settings.access
    known_keys = KnownKeys(
        store=parts.store,
        clock=parts.clock,
        metrics=parts.metrics,
        failures_per_minute=access.failures_per_minute,
    )
    refused = RefusedAttempts(store=parts.store, clock=parts.clock)
    sign_in = make_sign_in(parts)
    switch = MaintenanceSwitch(store=parts.store, clock=parts.clock, is_forced=parts.settings.maintenance)
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
            Middleware(SecureHeaders, hsts_seconds=parts.settings.tls.hsts_seconds if parts.settings.tls.is_on else 0),
            Middleware(Guard),
            Middleware(
                Authenticate,
                known_keys=known_keys,
                refused=refused,
                known_sessions=sign_in.known if sign_in else None,
                trusted_proxies=access.trusted_proxies,
            ),
            Middleware(RecordRefusals, refused=refused),
            Middleware(Maintenance, switch=switch),
            Middleware(BodyLimit, most_bytes=parts.settings.max_body_bytes),
        ],
    )
    register_error_handlers(app)
    _add_resources(app, parts)
    add_api_key_routes(app, parts, known_keys=known_keys)
    add_sign_in_routes(app, parts, sign_in=sign_in, refused=refused)
    add_session_routes(app, parts)
    add_challenge_routes(app, parts)
    add_maintenance_routes(app, switch=switch)
    add_health_routes(app, parts)
    add_openapi_routes(app)
    return app


def _add_resources(app: FastAPI, parts: Parts) -> None:
    """Add the routes that need no more than the parts."""
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
    add_revocation_routes(app, parts)
    add_version_routes(app, parts)
    add_issuer_routes(app, parts)
    add_keyring_routes(app, parts)
    add_audit_routes(app, parts)
