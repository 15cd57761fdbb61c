"""Settings of Envoy targets."""

import ipaddress
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from certorbit.target_settings.table import ListenerTable, WithListeners, split_address

UNIX: Final = "unix:"


def _check_listen(text: str) -> str:
    if text.startswith(UNIX):
        if not text.startswith(f"{UNIX}/"):
            raise ValueError(f"listen: {text!r} is not a socket; write unix:/run/certorbit/sds.sock")
        return text
    host, _, port = text.rpartition(":")
    is_whole = bool(host) and (":" not in host or (host.startswith("[") and host.endswith("]")))
    if not is_whole or not port.isdigit():
        raise ValueError(f"listen: {text!r} has no port; write host:port, [IPv6 address]:port or unix:/path")
    split_address(text, int(port))
    return text


def is_private(listen: str) -> bool:
    """Return whether only this machine reaches the address: a unix socket, or loopback."""
    if listen.startswith(UNIX):
        return True
    host, _ = split_address(listen, 1)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


SecretName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,99})$")]


class EnvoyListenerTable(ListenerTable):
    """One listener, with the names of the secrets that Envoy's configuration has for it."""

    secrets: tuple[SecretName, ...] = Field(
        min_length=1,
        max_length=100,
        description="Names in `tls_certificate_sds_secret_configs`, in its order: the default certificate's, then one"
        " for each further certificate (chosen by SNI) that the listener can take",
    )
    clients_secret: SecretName | Literal[""] = Field(
        "",
        description="Name in `validation_context_sds_secret_config`: what the listener checks client certificates by;"
        " empty: Certorbit doesn't let it check any",
    )
    require_client_certificate: bool = Field(
        False,
        description="What `require_client_certificate` is in Envoy's configuration of the listener: true for mode `on`,"
        " false for `optional` and `off`",
    )

    @property
    def all_secrets(self) -> tuple[str, ...]:
        return (*self.secrets, self.clients_secret) if self.clients_secret else self.secrets

    @model_validator(mode="after")
    def _check_clients(self) -> "EnvoyListenerTable":
        if self.require_client_certificate and not self.clients_secret:
            raise ValueError(
                f"listener {self.name!r}: require_client_certificate is about the listener of a clients_secret;"
                " give its name, or leave both out"
            )
        return self


class EnvoyTargetSettings(WithListeners):
    """Envoy, by an SDS server of our own or by files that it watches."""

    type: Literal["envoy"] = Field(description="The kind of target")
    mode: Literal["sds", "files"] = Field(
        "sds", description="sds: our own gRPC server (xDS v3 Secret Discovery Service); files: a watched directory"
    )
    listeners: tuple[EnvoyListenerTable, ...] = Field(min_length=1, description="The listeners")
    listen: Annotated[str, AfterValidator(_check_listen)] = Field(
        "127.0.0.1:18000",
        description="Where proxies reach the SDS server: host:port, [IPv6 address]:port or unix:/path; without TLS only"
        " on loopback or a unix socket",
    )
    certificate: str = Field("", description="PEM file with the SDS server's chain, leaf first; read when it changes")
    key: str = Field("", description="PEM file with the SDS server's private key")
    client_ca: str = Field("", description="PEM file with the CAs that proxies' client certificates must come from")
    poll_seconds: float = Field(
        1.0, gt=0, le=60, description="How often changes made by other nodes are looked for in the database"
    )
    acknowledge_seconds: float = Field(
        5.0, ge=0, le=60, description="How long a change waits for the proxies of this node to accept it; 0: not at all"
    )
    directory: str = Field("", pattern=r"^(/.*)?$", description="The directory that Envoy watches (mode files)")
    file_mode: str = Field("0640", pattern=r"^0?[0-7]{3}$", description="Mode of the secrets' files, octal")
    file_group: str = Field("", description="Group of the secrets' files, a name; empty: the service's own")

    @property
    def has_tls(self) -> bool:
        return bool(self.certificate)

    @model_validator(mode="after")
    def _check_secrets(self) -> "EnvoyTargetSettings":
        names = [secret for listener in self.listeners for secret in listener.all_secrets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"target {self.name!r}: {twice[0]!r} is the secret of two slots; each slot needs a name of its own,"
                " and so does each clients_secret"
            )
        return self

    @model_validator(mode="after")
    def _check_mode(self) -> "EnvoyTargetSettings":
        tls = (self.certificate, self.key, self.client_ca)
        if (self.mode == "files") != bool(self.directory):
            raise ValueError(f"target {self.name!r}: mode files needs a directory, and mode sds has none")
        if self.mode == "files":
            if any(tls):
                raise ValueError(
                    f"target {self.name!r}: mode files has no server; certificate, key, client_ca are for sds"
                )
            return self
        if any(tls) and not all(tls):
            raise ValueError(
                f"target {self.name!r}: certificate, key and client_ca belong together; give all three or none"
            )
        if not self.has_tls and not is_private(self.listen):
            raise ValueError(
                f"target {self.name!r}: {self.listen!r} can be reached from elsewhere and private keys go over it; give"
                " certificate, key and client_ca, or listen on 127.0.0.1 or a unix socket"
            )
        return self
