"""Settings of webhook targets."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from certorbit.target_settings.files import OptionalPath
from certorbit.target_settings.table import ListenerTable, WithListeners
from certorbit.web_address import is_loopback


class WebhookListener(ListenerTable):
    """A listener that the endpoint knows by name and port."""

    max_certificates: int = Field(
        100, ge=0, le=100_000, description="Most certificates beside the default one; 0: the default one alone"
    )


class WebhookTargetSettings(WithListeners):
    """An HTTP endpoint of the operator's own that puts certificates where they belong."""

    type: Literal["webhook"] = Field(description="The kind of target")
    url: str = Field(
        pattern=r"^https?://[^/\s?#@]+([/?][^\s#]*)?$",
        max_length=2048,
        description="Where the requests are posted to: https, or http to this machine",
    )
    secret: SecretStr = Field(min_length=16, description="Shared secret that signs the requests, 16 characters or more")
    ca_bundle: OptionalPath = Field("", description="PEM file with the roots for the endpoint; empty: the system's")
    listeners: tuple[WebhookListener, ...] = Field(min_length=1, description="Its listeners, a table each")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if not host or (parts.port is not None and parts.port == 0):
            raise ValueError("url: it names no host")
        if parts.scheme == "http" and not is_loopback(host):
            raise ValueError("url: private keys go over https only, or over http to this machine")
        return url
