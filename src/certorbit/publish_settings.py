"""`[publish]`: where edge bundles go, and whom their private keys are sealed to."""

import base64
import binascii
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from certorbit.web_address import check_web_address

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]\Z")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_.=+@-]{1,200}\Z")
_S3_ONLY: Final = ("region", "access_key_id", "secret_access_key", "session_token", "virtual_hosted")
_HOW_TO_MAKE_A_KEY: Final = (
    "give an X25519 public key, as PEM or as base64 of its 32 bytes; `openssl genpkey -algorithm X25519 -out edge.key`"
    " and `openssl pkey -in edge.key -pubout` make one"
)


class _Table(BaseModel):
    """An unknown name in a table is an error, and no message repeats a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class BucketSettings(_Table):
    """One `[[publish.buckets]]` table. Nothing is ever written to another place than these."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="Its name in requests and messages")
    url: str = Field(
        description="`file:///folder`, `s3://bucket/prefix` or `gs://bucket/prefix`; each configuration gets a folder"
        " of its own below it"
    )
    region: str = Field(
        "", pattern=r"^[a-z0-9-]{0,63}$", description="`s3`: region; empty: the environment's, or us-east-1"
    )
    endpoint_url: str = Field(
        "", description="`s3`, `gs`: another endpoint than the provider's; http only on this machine"
    )
    access_key_id: str = Field(
        "",
        description="`s3`: access key; empty: AWS_ACCESS_KEY_ID of the environment, a web identity, or the role of the"
        " container or the machine",
    )
    secret_access_key: SecretStr = Field(SecretStr(""), description="`s3`: secret of the access key")
    session_token: SecretStr = Field(SecretStr(""), description="`s3`: token of temporary credentials")
    virtual_hosted: bool = Field(False, description="`s3`: the bucket's name stands in the endpoint's host name")
    credentials_file: Path | None = Field(
        None, description="`gs`: key file of a service account; left out: the environment's own credentials"
    )
    token: SecretStr | None = Field(None, description="`gs`: a ready access token, for emulators; it is never renewed")
    ca_bundle: Path | None = Field(
        None, description="`s3`, `gs`: PEM file with further roots that the endpoint's HTTPS is checked against"
    )
    conditional_writes: bool = Field(
        True,
        description="`s3`: replace the manifest only if it is still the one that was read (`If-Match`); false for"
        " stores that can't",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        split_bucket_url(value)
        return value.rstrip("/")

    @field_validator("endpoint_url")
    @classmethod
    def _check_endpoint(cls, value: str) -> str:
        return _check_endpoint(value)

    @model_validator(mode="after")
    def _check(self) -> "BucketSettings":
        strangers = {
            "file": (*_S3_ONLY, "credentials_file", "token", "endpoint_url", "ca_bundle", "conditional_writes"),
            "s3": ("credentials_file", "token"),
            "gs": (*_S3_ONLY, "conditional_writes"),
        }[self.scheme]
        for name in strangers:
            if name in self.model_fields_set:
                raise ValueError(f"bucket {self.name!r}: {name} is not for {self.scheme}:// buckets")
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError(f"bucket {self.name!r}: access_key_id and secret_access_key go together")
        if self.session_token.get_secret_value() and not self.access_key_id:
            raise ValueError(f"bucket {self.name!r}: session_token is for access_key_id, which is not set")
        if self.token is not None and self.credentials_file is not None:
            raise ValueError(f"bucket {self.name!r}: give token or credentials_file, not both")
        return self

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]


class PublishSettings(_Table):
    """`[publish]`: edge bundles (docs/publish.md)."""

    recipient_key: str = Field(
        "",
        description="X25519 public key that private keys are sealed to, PEM or base64 of its 32 bytes; without one"
        " nothing is published",
    )
    default: str = Field(
        "", description="Name of the bucket that a request without buckets means; empty: the first one"
    )
    grace_seconds: float = Field(
        3600.0,
        ge=0,
        le=30 * 86400,
        description="How long objects stay that the newest manifest doesn't name any more; readers of an older one"
        " need them",
    )
    buckets: tuple[BucketSettings, ...] = Field((), description="`[[publish.buckets]]`, a table each")

    @field_validator("recipient_key")
    @classmethod
    def _check_recipient(cls, value: str) -> str:
        if value.strip():
            parse_recipient_key(value)
        return value.strip()

    @model_validator(mode="after")
    def _check(self) -> "PublishSettings":
        for what, values in (
            ("name", [bucket.name for bucket in self.buckets]),
            ("url", [bucket.url for bucket in self.buckets]),
        ):
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"publish.buckets: the {what} {twice[0]!r} is given twice")
        names = [bucket.name for bucket in self.buckets]
        if self.default and self.default not in names:
            raise ValueError(
                f"publish.default: there is no bucket of that name; there are {', '.join(names) or 'none'}"
            )
        return self


def parse_recipient_key(text: str) -> X25519PublicKey:
    """Return the key.

    Raises:
        ValueError: it is none, or of another kind. The text is never quoted: it may be a private key by mistake.
    """
    text = text.strip()
    try:
        if text.startswith("-----BEGIN"):
            key = load_pem_public_key(text.encode())
        else:
            key = X25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        raise ValueError(f"recipient_key: {_HOW_TO_MAKE_A_KEY}") from None
    try:
        if not isinstance(key, X25519PublicKey):
            raise ValueError  # noqa: TRY301, TRY004 - the one way out of here
        # A point of small order gives the same secret (zero) with every key, so with one that everybody knows too.
        X25519PrivateKey.from_private_bytes(b"\x01" * 32).exchange(key)
    except ValueError:
        raise ValueError(f"recipient_key: {_HOW_TO_MAKE_A_KEY}") from None
    return key


def split_bucket_url(url: str) -> tuple[str, str, str]:
    """Return scheme, bucket ("" for files) and path: a prefix without slashes around it, or a folder's absolute path.

    Raises:
        ValueError: it is none of the three forms.
    """
    parts = urlsplit(url)
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("the URL of a bucket has neither query nor fragment")
    if parts.scheme == "file":
        path = unquote(parts.path)
        names = [name for name in path.split("/") if name]
        if parts.netloc or not path.startswith("/") or not names or not path.isprintable() or {".", ".."} & set(names):
            raise ValueError("write file:///absolute/folder, without . and .. in it")
        return "file", "", "/" + "/".join(names)
    if parts.scheme in {"s3", "gs"}:
        segments = [segment for segment in parts.path.split("/") if segment]
        if not _BUCKET.match(parts.netloc) or any(
            not _SEGMENT.match(segment) or segment in {".", ".."} for segment in segments
        ):
            raise ValueError(f"write {parts.scheme}://bucket or {parts.scheme}://bucket/prefix")
        return parts.scheme, parts.netloc, "/".join(segments)
    raise ValueError("write file:///folder, s3://bucket/prefix or gs://bucket/prefix")


def _check_endpoint(text: str) -> str:
    return check_web_address(text, example="https://s3.example.com", shows="what is written")
