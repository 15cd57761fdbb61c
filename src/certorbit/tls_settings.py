"""`[tls]`: the service's own HTTPS."""

import re
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ClientCertificates = Literal["off", "optional", "required"]
HSTS_SECONDS: Final = 63_072_000  # two years: Mozilla's guidelines 6.0, `hsts_min_age`
_ENTRY: Final = re.compile(r"[^/\s]+/[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")


class TLSSettings(BaseModel):
    """`[tls]` (docs/tls.md). With neither `certificate` nor `certificate_file` the service speaks plain HTTP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: str = Field(
        "",
        description="The service's own certificate: an entry, as `configuration/id`, taken anew whenever it is renewed;"
        " until it is issued, the files below or a self-signed certificate are served",
    )
    certificate_file: Path | None = Field(
        None, description="PEM file with certificate and chain, in place of an entry, or until it is issued"
    )
    key_file: Path | None = Field(None, description="PEM file with its private key, unencrypted")
    client_certificates: ClientCertificates = Field(
        "off",
        description="`off`: clients aren't asked; `optional`: one that is sent must be good; `required`: nobody gets in"
        " without a good one",
    )
    client_ca: str = Field(
        "",
        description="Whom client certificates must come from: an entry of side `clientCA`, as `configuration/id`; with"
        " CRLs if it has them",
    )
    client_ca_file: Path | None = Field(
        None, description="PEM file with CA certificates (and CRLs), in place of that entry, or until there is one"
    )
    hsts_seconds: int = Field(
        HSTS_SECONDS,
        ge=0,
        description="`max-age` of the Strict-Transport-Security header; it counts for all ports of the host; 0: none",
    )
    look_seconds: float = Field(
        3.0, ge=0.1, le=300, description="Seconds between two looks at whether there is a newer certificate"
    )

    @field_validator("certificate", "client_ca")
    @classmethod
    def _check_entry(cls, value: str) -> str:
        if value and not _ENTRY.fullmatch(value):
            raise ValueError("name an entry as configuration/id, for example prod/api")
        return value

    @model_validator(mode="after")
    def _check(self) -> "TLSSettings":
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("tls: certificate_file and key_file go together")
        has_client_ca = bool(self.client_ca) or self.client_ca_file is not None
        if not self.is_on and (has_client_ca or self.client_certificates != "off"):
            raise ValueError("tls: client certificates need TLS; set certificate, or certificate_file and key_file")
        if self.client_certificates != "off" and not has_client_ca:
            raise ValueError("tls: client_certificates needs client_ca or client_ca_file")
        return self

    @property
    def is_on(self) -> bool:
        """Return whether the service speaks HTTPS."""
        return bool(self.certificate) or self.certificate_file is not None


def split_entry(text: str) -> tuple[str, str]:
    """Return configuration and id of `configuration/id`."""
    config, _, entry = text.rpartition("/")
    return config, entry
