"""For those who watch the service: alive, ready, metrics."""

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.responses import Response

from certorbit.api import schemas
from certorbit.api.answers import JSONAnswer
from certorbit.api.authentication import Reader
from certorbit.api.documentation import PUBLIC, Responses, answers_file, errors_of
from certorbit.api.parts import Parts
from certorbit.api.routes import RouteAdder
from certorbit.api.standing_metrics import StandingMetrics
from certorbit.api.upkeep_metrics import UpkeepMetrics
from certorbit.errors import CertorbitError, NotFound
from certorbit.observe.metrics import CONTENT_TYPE


@dataclass(frozen=True, slots=True)
class HealthRoutes:
    """The endpoints."""

    parts: Parts
    standing: StandingMetrics
    upkeep: UpkeepMetrics

    async def get_health(self) -> Response:
        """Say that the process is alive; nothing else is looked at"""
        return JSONAnswer({"message": "alive"})

    async def get_readiness(self) -> Response:
        """Say whether requests can be served now; 503 says why not"""
        try:
            await self.parts.check_ready()
        except CertorbitError as error:
            # Whatever its kind: for a load balancer 'not ready' has one status.
            reason = {"code": 503, "message": error.message, "detail": error.message}
            return JSONAnswer({**reason, "data": {"message": error.message}}, status_code=503)
        return JSONAnswer({"message": "ready"})

    async def get_metrics(self, _caller: Reader) -> Response:
        """Get the metrics in Prometheus' text format"""
        if not self.parts.settings.metrics:
            raise NotFound("Metrics are switched off (CERTORBIT_METRICS).")
        await self.standing.refresh()
        await self.upkeep.refresh()
        answer = Response(self.parts.metrics.render())
        answer.headers["content-type"] = CONTENT_TYPE
        return answer


def add_health_routes(app: FastAPI, parts: Parts) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`."""
    standing = StandingMetrics(store=parts.store, clock=parts.clock, metrics=parts.metrics)
    upkeep = UpkeepMetrics(store=parts.store, clock=parts.clock, metrics=parts.metrics)
    routes = HealthRoutes(parts, standing, upkeep)
    alive: Responses = {200: {"description": "Yes", "model": schemas.MessageBody}}
    add = RouteAdder(app, "Health").add
    add("GET", "/healthz", routes.get_health, alive, access=PUBLIC)
    add("GET", "/readyz", routes.get_readiness, {**alive, **errors_of(503)}, access=PUBLIC)
    add("GET", "/metrics", routes.get_metrics, answers_file("The metrics", "text/plain", 404))
