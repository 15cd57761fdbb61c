"""Publishing a configuration's edge bundle, the same in every dialect (contract.md, Around the certificates)."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer
from certorbit.api.authentication import Writer
from certorbit.api.dialects import DIALECTS
from certorbit.api.documentation import answers_json, takes_body
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, read_body, read_config
from certorbit.api.routes import RouteAdder
from certorbit.errors import BadInput
from certorbit.ports.bucket import PublishReport, WantedBucket

_Text = Annotated[str, StringConstraints(max_length=2048)]


class PublishBucket(BaseModel):
    """A bucket to publish to; one of those in the settings."""

    model_config = ConfigDict(strict=True, extra="ignore")

    name: _Text = Field(description="Its name")
    url: _Text = Field(description="Its URL, as in the settings: file://, s3:// or gs://")


_Buckets = Annotated[list[PublishBucket], Field(max_length=100, fail_fast=True)]


class PublishBody(RootModel[_Buckets]):
    """The buckets; none: the default one."""

    root: _Buckets = []


class PublishedBucket(BaseModel):
    """A bucket that has the bundle now."""

    name: str
    url: str
    objects: int = Field(description="Objects that the bundle has")
    written: int = Field(description="Of these, new ones")
    removed: int = Field(description="Objects of older bundles that were removed")


class Published(BaseModel):
    """What was published."""

    configuration: str
    version: str
    unavailable: list[str] = Field(description="Certificates that a server group names and that are still being issued")
    buckets: list[PublishedBucket]


@dataclass(frozen=True, slots=True)
class PublishRoutes:
    """The endpoint."""

    parts: Parts

    async def publish(self, request: Request, config: ConfigPath, _caller: Writer) -> Response:
        """Write the configuration's edge bundle to buckets. Repeating a request is safe"""
        config_id = read_config(config)
        body = await read_body(request, PublishBody, optional=True)
        if self.parts.publisher is None:
            raise BadInput("This service publishes nothing.", subject="publish")
        wanted = [WantedBucket(bucket.name, bucket.url) for bucket in body.root]
        return JSONAnswer(_render(await self.parts.publisher.publish(config_id, wanted)))


def add_publish_routes(app: FastAPI, parts: Parts) -> None:
    """Add publishing under every dialect's prefix."""
    routes = PublishRoutes(parts)
    published = answers_json("Every bucket has the bundle", Published, 400, 404, 413, 422)
    buckets = takes_body(PublishBody, required=False)
    for dialect in DIALECTS:
        add = RouteAdder(app, "Tools", dialect).add
        add("PUT", "/tools/publish/{config}", routes.publish, published, body=buckets)


def _render(report: PublishReport) -> dict[str, Any]:
    return {
        "configuration": report.config,
        "version": str(report.version),
        "unavailable": list(report.unavailable),
        "buckets": [
            {
                "name": bucket.name,
                "url": bucket.url,
                "objects": bucket.objects,
                "written": bucket.written,
                "removed": bucket.removed,
            }
            for bucket in report.buckets
        ],
    }
