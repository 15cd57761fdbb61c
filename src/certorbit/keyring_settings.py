"""Settings of `[keyring]`: who keeps the key-encryption key (docs/keyring.md)."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from certorbit.web_address import is_loopback

Provider = Literal["file", "aws-kms", "gcp-kms", "transit", "pkcs11"]


def _check_url(text: str) -> str:
    """Accept https, and http to this very machine: what goes there opens everything."""
    parts = urlsplit(text)
    host = parts.hostname or ""
    if not text:
        return text
    if parts.username or parts.query or parts.fragment or not host:
        raise ValueError("give https://host[:port] without user, query and fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("give an https URL; http is for this machine alone")
    return text.rstrip("/")


URL = Annotated[str, AfterValidator(_check_url)]


class _Table(BaseModel):
    """An unknown name in a table is an error, and no message repeats a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _RemoteTable(_Table):
    timeout_seconds: float = Field(10.0, gt=0, le=60, description="Longest time of one call; tried three times")


class AWSKMSSettings(_RemoteTable):
    """`[keyring.aws_kms]`: a symmetric key of AWS KMS. Needs `pip install certorbit[aws]`."""

    key_id: str = Field(min_length=1, description="The KMS key: its ARN, id or alias")
    region: str = Field("", description="Its region; empty: boto3's default one")
    access_key_id: str = Field("", description="Access key; empty: boto3's own search (environment, profile, role)")
    secret_access_key: SecretStr = Field(SecretStr(""), description="Secret of the access key")
    endpoint_url: URL = Field("", description="Another endpoint than Amazon's")

    @model_validator(mode="after")
    def _check(self) -> "AWSKMSSettings":
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError("keyring.aws_kms: access_key_id and secret_access_key go together")
        return self


class GCPKMSSettings(_RemoteTable):
    """`[keyring.gcp_kms]`: a symmetric key of Google's Cloud KMS. Needs `pip install certorbit[gcp]`."""

    key: str = Field(
        pattern=r"^projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+$",
        description="`projects/…/locations/…/keyRings/…/cryptoKeys/…`",
    )
    credentials_file: Path | None = Field(
        None, description="Key file of a service account; left out: the environment's own credentials"
    )
    token: SecretStr | None = Field(None, description="A ready access token, for emulators; it is never renewed")
    endpoint_url: URL = Field("https://cloudkms.googleapis.com", description="Another endpoint than Google's")


class TransitSettings(_RemoteTable):
    """`[keyring.transit]`: a key of a transit engine over HTTP, as HashiCorp Vault and OpenBao have it."""

    url: URL = Field(min_length=1, description="Where the server is, `https://vault.internal:8200`")
    key: str = Field(pattern=r"^[A-Za-z0-9._-]+$", description="Name of the transit key, of type aes256-gcm96")
    mount: str = Field("transit", pattern=r"^[A-Za-z0-9._/-]+$", description="Where the engine is mounted")
    namespace: str = Field("", pattern=r"^[A-Za-z0-9._/-]*$", description="Namespace, where the server has them")
    token: SecretStr = Field(SecretStr(""), description="Token; or role_id and secret_id")
    role_id: str = Field("", description="AppRole: the role's id")
    secret_id: SecretStr = Field(SecretStr(""), description="AppRole: the secret id")
    approle_mount: str = Field("approle", pattern=r"^[A-Za-z0-9._/-]+$", description="Where AppRole is mounted")
    ca_bundle: Path | None = Field(
        None, description="PEM file with the roots that the server's HTTPS is checked against; else the system's"
    )

    @model_validator(mode="after")
    def _check(self) -> "TransitSettings":
        has_role = bool(self.role_id) and bool(self.secret_id.get_secret_value())
        if bool(self.token.get_secret_value()) == has_role or bool(self.role_id) != has_role:
            raise ValueError("keyring.transit: give token, or role_id and secret_id")
        return self


class PKCS11Settings(_Table):
    """`[keyring.pkcs11]`: an AES key in a hardware security module. Needs `pip install certorbit[pkcs11]`."""

    module: Path = Field(description="The maker's PKCS#11 library, a `.so` file")
    token_label: str = Field(min_length=1, max_length=32, description="Label of the token")
    key_label: str = Field(min_length=1, description="Label of the AES key, which may wrap and unwrap")
    pin: SecretStr = Field(description="The user's PIN")


class KeyringSettings(_Table):
    """`[keyring]`."""

    provider: Provider = Field(
        "file",
        description="Who wraps the next key-encryption key; `file`: the key of `key_encryption_key` or of the key file",
    )
    refresh_seconds: float = Field(
        60.0, gt=0, le=60, description="How often a process looks for new key-encryption keys of other processes"
    )
    aws_kms: AWSKMSSettings | None = Field(None, description="`[keyring.aws_kms]`, below")
    gcp_kms: GCPKMSSettings | None = Field(None, description="`[keyring.gcp_kms]`, below")
    transit: TransitSettings | None = Field(None, description="`[keyring.transit]`, below")
    pkcs11: PKCS11Settings | None = Field(None, description="`[keyring.pkcs11]`, below")

    @model_validator(mode="after")
    def _check(self) -> "KeyringSettings":
        table = self.provider.replace("-", "_")
        if self.provider != "file" and getattr(self, table) is None:
            raise ValueError(f"keyring: provider {self.provider!r} needs the table [keyring.{table}]")
        return self
