"""Our settings: environment `CERTORBIT_*` first, then `certorbit.toml` (`CERTORBIT_SETTINGS` names another file).

Nested values: `[issuance] wait = 20` in the file is `CERTORBIT_ISSUANCE__WAIT=20` in the environment. Every default
has its reason beside it; docs/settings.md is made from the descriptions here.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from certorbit.access_settings import AccessSettings
from certorbit.audit_settings import AuditSettings
from certorbit.deployment_settings import DeploymentSettings
from certorbit.keyring_settings import KeyringSettings
from certorbit.limit_settings import LimitsSettings
from certorbit.oidc_settings import OIDCSettings, is_safe_url
from certorbit.outbound_settings import OutboundSettings
from certorbit.publish_settings import PublishSettings
from certorbit.region_settings import RegionSettings
from certorbit.renewal_settings import RenewalSettings
from certorbit.revocation_settings import RevocationSettings
from certorbit.solver_settings import SolverSettings
from certorbit.target_settings import TargetSettings
from certorbit.tls_settings import TLSSettings

KeyTypeName = Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
DEFAULT_FILE = "certorbit.toml"
_DIRECTORY = re.compile(r"https?://[^/\s?#]+[^\s#]*\Z")


class _Part(BaseModel):
    """A table of the settings file: an unknown name in it is an error, not a silent typo."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IssuerSettings(_Part):
    """One `[[issuers]]` table: an account at a CA."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="Its name in messages and operations")
    type: Literal["acme", "internal"] = Field("acme", description="`acme`, or `internal` for the built-in CA")
    directory: str = Field("", description="The CA's ACME directory URL")
    ca_bundle: Path | None = Field(
        None,
        description="PEM file with the roots that the CA's own HTTPS is checked against; else the system's",
    )
    contact: tuple[str, ...] = Field((), description="Contact addresses of the account, as `mailto:` URLs or plain")
    eab_kid: str = Field("", description="External account binding: key id (RFC 8555 §7.3.4)")
    eab_hmac_key: SecretStr = Field(SecretStr(""), description="External account binding: HMAC key, base64url")
    profile: str = Field("", description="ACME profile to ask for, if the CA offers it")
    preferred_chain: str = Field("", description="Common name that the chain's last issuer should have")

    @model_validator(mode="after")
    def _check(self) -> "IssuerSettings":
        if self.type == "acme" and not _DIRECTORY.match(self.directory):
            raise ValueError(f"issuer {self.name!r}: directory must be the CA's https URL")
        if self.type == "acme" and self.name == "internal":
            raise ValueError("issuer 'internal': this is the built-in CA's name, by which its certificates are known")
        if bool(self.eab_kid) != bool(self.eab_hmac_key.get_secret_value()):
            raise ValueError(f"issuer {self.name!r}: eab_kid and eab_hmac_key go together")
        return self


class IssuanceSettings(_Part):
    """`[issuance]`."""

    wait: float = Field(
        20.0, ge=0, le=25, description="Seconds that a POST waits for the issuance; clients time out at 30"
    )
    key_type: KeyTypeName = Field("ecdsa-p256", description="Key of generated certificates")
    reuse_key: bool = Field(
        False,
        description="A renewal keeps the key of the version before; a new key limits what a stolen one is worth",
    )
    check_caa: bool = Field(
        False,
        description="Before an order, ask the machine's DNS resolvers whether CAA records (RFC 8659) forbid the CA to"
        " issue ([letsencrypt.md](letsencrypt.md#caa-records)); off, because not every machine reaches resolvers that"
        " see what the CA sees",
    )


class ConfigurationSettings(_Part):
    """One `[configurations.<id>]` table: what is different for one configuration."""

    issuers: tuple[str, ...] = Field(
        min_length=1,
        description="Names of the issuers for its certificates, in order of preference; the others don't issue for it",
    )


class WorkerSettings(_Part):
    """`[worker]`: how the workers of one PostgreSQL watch over each other. With SQLite there is only one."""

    heartbeat_seconds: float = Field(
        10.0, gt=0, le=60, description="PostgreSQL: seconds between two signs of life of a worker"
    )
    ttl_seconds: float = Field(
        45.0,
        gt=0,
        le=600,
        description="PostgreSQL: seconds without a sign of life after which a worker is dead and others take over its"
        " work; three heartbeats or more, and the same in all processes",
    )

    @model_validator(mode="after")
    def _check(self) -> "WorkerSettings":
        if self.ttl_seconds < 3 * self.heartbeat_seconds:
            raise ValueError("worker: ttl_seconds must be three heartbeats or more; one late heartbeat is no death")
        return self


class InternalCASettings(_Part):
    """`[internal_ca]`: the built-in CA."""

    lifetime_days: float = Field(90.0, gt=0, le=397, description="Lifetime of the certificates that it issues")
    root_years: int = Field(10, ge=1, le=30, description="Lifetime of its root")
    permitted_names: tuple[str, ...] = Field(
        (), description="DNS subtrees that it may issue for (name constraints); none: any name"
    )
    organization: str = Field("Certorbit", min_length=1, max_length=64, description="O= in its names")


class Settings(BaseSettings):
    """All settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix="CERTORBIT_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    data_dir: Path = Field(Path("certorbit-data"), description="Where the database, the keyring and the first key live")
    database_url: str = Field(
        "", description="`postgresql://user:password@host/name`; empty: SQLite in the data directory"
    )
    key_encryption_key: SecretStr = Field(
        SecretStr(""),
        description="32 bytes as base64 that seal all private keys; empty: a 0600 file in the data directory",
    )
    bootstrap_api_key: SecretStr = Field(
        SecretStr(""),
        description="The first admin key (20 characters or more) of a new database; empty: random, printed once",
    )
    public_url: str = Field(
        "", description="How clients reach the API from outside; goes into the built-in CA's CRL addresses"
    )
    maintenance: bool = Field(
        False,
        description="Read-only mode: every write is answered 403; it stays on whatever the API's own switch says",
    )
    metrics: bool = Field(True, description="Serve `/metrics` (a key with read right is needed)")
    max_body_bytes: int = Field(1_048_576, ge=65_536, description="Largest request body")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged")
    log_format: Literal["json", "console"] = Field("json", description="One JSON object per line, or for people")

    acme_directory: str = Field("", description="Shortcut for one ACME issuer named `acme`: its directory URL")
    acme_ca_bundle: Path | None = Field(None, description="`ca_bundle` of that issuer")
    acme_contact: str = Field("", description="`contact` of that issuer; several separated by commas")
    acme_eab_kid: str = Field("", description="`eab_kid` of that issuer")
    acme_eab_hmac_key: SecretStr = Field(SecretStr(""), description="`eab_hmac_key` of that issuer")
    acme_profile: str = Field("", description="`profile` of that issuer")
    acme_preferred_chain: str = Field("", description="`preferred_chain` of that issuer")
    acme_max_in_flight: Annotated[int, Field(ge=1, le=1000)] = Field(
        100, description="Orders at once per process (12 for Debian's Pebble, which wedges above 16 requests)"
    )
    http01_listen: str = Field(
        "", description="host:port of a second listener for HTTP-01 challenges alone, e.g. `0.0.0.0:80`"
    )

    issuance: IssuanceSettings = Field(IssuanceSettings())
    renewal: RenewalSettings = Field(RenewalSettings())
    deployment: DeploymentSettings = Field(DeploymentSettings())
    publish: PublishSettings = Field(PublishSettings())
    revocation: RevocationSettings = Field(RevocationSettings())
    outbound: OutboundSettings = Field(OutboundSettings())
    regions: RegionSettings = Field(RegionSettings())
    worker: WorkerSettings = Field(WorkerSettings())
    internal_ca: InternalCASettings = Field(InternalCASettings())
    keyring: KeyringSettings = Field(KeyringSettings())
    tls: TLSSettings = Field(TLSSettings())
    access: AccessSettings = Field(AccessSettings())
    oidc: OIDCSettings = Field(OIDCSettings())
    audit: AuditSettings = Field(AuditSettings())
    limits: LimitsSettings = Field(LimitsSettings())
    issuers: tuple[IssuerSettings, ...] = Field((), description="`[[issuers]]`, the first one issues")
    configurations: dict[str, ConfigurationSettings] = Field({}, description="`[configurations.<id>]`, by its id")
    solvers: tuple[SolverSettings, ...] = Field((), description="`[[solvers]]`, who proves control of which names")
    targets: tuple[TargetSettings, ...] = Field(
        (),
        description="`[[targets]]`, load balancers that certificates are put on; a roll-out takes them in this order",
    )

    @field_validator("http01_listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        if value:
            split_listen(value)
        return value

    @field_validator("bootstrap_api_key")
    @classmethod
    def _check_key(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text and (len(text) < 20 or not text.isascii() or any(c.isspace() for c in text)):
            raise ValueError("give 20 or more printable ASCII characters without spaces")
        return value

    @model_validator(mode="after")
    def _check_issuers(self) -> "Settings":
        names = ["acme"] * bool(self.acme_directory) + [issuer.name for issuer in self.issuers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"issuers: the name {twice[0]!r} is given twice; accounts are kept by it")
        names = [issuer.name for issuer in self.all_issuers()]
        for config, part in self.configurations.items():
            for name in part.issuers:
                if name not in names:
                    raise ValueError(
                        f"configurations.{config}: there is no issuer named {name[:80]!r}; there are {', '.join(names)}"
                    )
                if part.issuers.count(name) > 1:
                    raise ValueError(f"configurations.{config}: the issuer {name!r} is given twice")
        return self

    @model_validator(mode="after")
    def _check_targets(self) -> "Settings":
        names = [target.name for target in self.targets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"targets: the name {twice[0]!r} is given twice; what is attached is kept by it")
        return self

    @model_validator(mode="after")
    def _check_sign_in(self) -> "Settings":
        if self.oidc.is_on and not is_safe_url(self.public_url):
            raise ValueError(
                "oidc: set public_url, where the provider sends browsers back to: https, or http on loopback"
            )
        return self

    @property
    def url(self) -> str:
        """The database's URL with its default filled in."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'certorbit.db').absolute()}"

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def all_issuers(self) -> tuple[IssuerSettings, ...]:
        """Return the issuers in order of preference; the built-in CA when none is configured."""
        shortcut: tuple[IssuerSettings, ...] = ()
        if self.acme_directory:
            shortcut = (
                IssuerSettings(
                    name="acme",
                    directory=self.acme_directory,
                    ca_bundle=self.acme_ca_bundle,
                    contact=tuple(part.strip() for part in self.acme_contact.split(",") if part.strip()),
                    eab_kid=self.acme_eab_kid,
                    eab_hmac_key=self.acme_eab_hmac_key,
                    profile=self.acme_profile,
                    preferred_chain=self.acme_preferred_chain,
                ),
            )
        return (*shortcut, *self.issuers) or (IssuerSettings(name="internal", type="internal"),)

    def issuers_by_configuration(self) -> dict[str, tuple[str, ...]]:
        """Return the issuers' names in order, for the configurations that have an order of their own."""
        return {config: part.issuers for config, part in self.configurations.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get("CERTORBIT_SETTINGS", DEFAULT_FILE))
        if "CERTORBIT_SETTINGS" in os.environ and not file.is_file():
            raise FileNotFoundError(f"CERTORBIT_SETTINGS names {file}, which does not exist")
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file))


def split_listen(listen: str) -> tuple[str, int]:
    """Return host and port of `host:port` (an IPv6 host in brackets).

    Raises:
        ValueError: it is not of that form.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{listen!r} is not host:port, for example 0.0.0.0:80")
    return host.strip("[]"), int(port)
