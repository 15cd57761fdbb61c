"""The entry (a certificate as clients name it) and its versions (its material at one time)."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

from certorbit.errors import BadInput
from certorbit.model.material import CertificateFacts

ConfigID = NewType("ConfigID", str)
EntryID = NewType("EntryID", str)  # the name that clients give; unique within a configuration
EntryUID = NewType("EntryUID", str)  # ours; a name that is deleted and made anew is another entry
VersionID = NewType("VersionID", str)

ENTRY_ID_PATTERN = r"^[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?$"  # the seed; the rule of cloud load balancers
PLACEHOLDER = EntryID("placeholder")
_ENTRY_ID = re.compile(ENTRY_ID_PATTERN)


def is_entry_id(text: str) -> bool:
    return _ENTRY_ID.fullmatch(text) is not None


class Side(StrEnum):
    """Which end of TLS the certificate serves. Dialects spell them their own way (`client` is `clientCA`)."""

    SERVER = "server"
    CLIENT_CA = "clientCA"
    SERVER_TO_BACKEND_MTLS = "serverToBackendMTLS"
    BACKEND_CA = "backendCA"

    @property
    def is_ca_bundle(self) -> bool:
        return self in {Side.CLIENT_CA, Side.BACKEND_CA}


def parse_side(text: str) -> Side:
    """Return the side for any dialect's spelling.

    Raises:
        BadInput: the word is none of them.
    """
    if text == "client":
        return Side.CLIENT_CA
    try:
        return Side(text)
    except ValueError:
        raise BadInput(
            f"side: {text[:40]!r} is not known; use server, client, clientCA, serverToBackendMTLS or backendCA.",
            subject="side",
        ) from None


class Source(StrEnum):
    """Where an entry's material comes from."""

    UPLOADED = "uploaded"
    GENERATED = "generated"
    BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class ProviderLink:
    """Where a provider keeps a copy: an ARN, a self link, a URL."""

    link: str
    provider: str
    region: str


@dataclass(frozen=True, slots=True)
class Version:
    """An entry's material at one time.

    sealed_key: the private key sealed by the keyring with `key_context(id)`; None for CA bundles.
    le_hash: contract.md; "" for uploads.
    issuer_name: the issuer (settings) that made it; "" for uploads.
    """

    id: VersionID
    entry_uid: EntryUID
    created_at: datetime
    source: Source
    chain_pem: str
    sealed_key: bytes | None = field(repr=False)
    facts: CertificateFacts
    le_hash: str
    issuer_name: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate as clients name it. `current` is None until the first issuance is done.

    input_digest: SHA-256 (hex) of the normalised input that made it; tells a repeated POST from another one.
    identifiers: the normalised names asked for (generated) or the SAN (uploaded).
    """

    uid: EntryUID
    config: ConfigID
    id: EntryID
    side: Side
    source: Source
    le_auto_renew: bool
    le_auto_replace: bool
    identifiers: tuple[str, ...]
    provider_links: tuple[ProviderLink, ...]
    crl: tuple[str, ...]
    input_digest: str
    uploaded: datetime
    current: Version | None


@dataclass(frozen=True, slots=True)
class Configuration:
    """One of the operator's configurations. `version` counts the changes made in it by clients."""

    id: ConfigID
    description: str
    version: int
    date: datetime


def key_context(version: VersionID) -> str:
    """Return the associated data that binds a sealed key to its version's row."""
    return f"version:{version}"
