"""Settings of Kubernetes targets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from certorbit.target_settings.table import ListenerTable, WithListeners
from certorbit.web_address import check_web_address

_LABEL = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
_SUBDOMAIN = r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$"


class KubernetesListenerTable(ListenerTable):
    """A TLS Secret that an Ingress or a Gateway refers to."""

    namespace: str = Field("default", pattern=_LABEL, description="The Secret's namespace")
    secret: str = Field(pattern=_SUBDOMAIN, description="The Secret's name, as the Ingress or Gateway has it")


class KubernetesTargetSettings(WithListeners):
    """Kubernetes: TLS Secrets, by its REST API."""

    type: Literal["kubernetes"] = Field(description="The kind of target")
    server: Annotated[str, AfterValidator(check_web_address)] = Field(
        "", description="URL of the API server; left out: kubeconfig, or the cluster that this process runs in"
    )
    token_file: Path | None = Field(None, description="File with the bearer token; it is read again when it changes")
    ca_file: Path | None = Field(None, description="PEM file with the API server's CA; left out: the system's CAs")
    kubeconfig: Path | None = Field(
        None, description="kubeconfig file with server, CA and a token or client certificate"
    )
    context: str = Field("", max_length=253, description="Context of the kubeconfig; empty: its current one")
    adopt: bool = Field(False, description="Whether Secrets that somebody else made may be taken over")
    owner: str = Field(
        "certorbit", pattern=_LABEL, description="What Secrets are marked with; another word for each Certorbit"
    )
    listeners: tuple[KubernetesListenerTable, ...] = Field(
        (), description="The TLS Secrets: `[[targets.listeners]]` tables"
    )

    @model_validator(mode="after")
    def _check(self) -> "KubernetesTargetSettings":
        if self.server and self.kubeconfig is not None:
            raise ValueError(f"target {self.name!r}: give server or kubeconfig, not both")
        if self.context and self.kubeconfig is None:
            raise ValueError(f"target {self.name!r}: context needs kubeconfig")
        if not self.server and (self.token_file is not None or self.ca_file is not None):
            raise ValueError(f"target {self.name!r}: token_file and ca_file need server")
        places = [(listener.namespace, listener.secret) for listener in self.listeners]
        if len(set(places)) < len(places):
            raise ValueError(f"target {self.name!r}: two listeners have the same Secret; give one all its addresses")
        return self
