"""Adds routes to the application: what all of a resource's have in common is said once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import Response

from certorbit.api.dialects import Dialect
from certorbit.api.documentation import SECURED, Responses

NO_BODY: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RouteAdder:
    """The routes of one resource, in one dialect or (None) in the native API. tag: its heading in the documentation."""

    app: FastAPI
    tag: str
    dialect: Dialect | None = None

    def add(
        self,
        method: str,
        path: str,
        endpoint: Callable[..., Any],
        responses: Responses,
        *,
        status: int = 200,
        body: Mapping[str, Any] = NO_BODY,
        access: Mapping[str, Any] = SECURED,
    ) -> None:
        """Add a route, named after its endpoint.

        path: under the dialect's prefix. body: as `takes_body` describes it. access: SECURED or PUBLIC.
        """
        dialect = self.dialect
        self.app.add_api_route(
            f"{dialect.prefix}{path}" if dialect else path,
            endpoint,
            methods=[method],
            status_code=status,
            responses=responses,
            response_class=Response,
            operation_id=f"{endpoint.__name__}_{dialect.name.replace('.', '_')}" if dialect else endpoint.__name__,
            tags=[f"{self.tag} ({dialect.name})" if dialect else self.tag],
            openapi_extra={**access, **body},
        )
