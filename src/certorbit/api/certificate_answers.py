"""How an entry is written in each dialect, and what was in a PKCS#12 file."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from certorbit.api.answers import format_instant
from certorbit.api.dialects import Dialect
from certorbit.model.entry import Entry, ProviderLink, Source
from certorbit.model.identifiers import hash_identifiers
from certorbit.model.material import PrivateKeyPEM


def render_certificate(
    entry: Entry,
    *,
    dialect: Dialect,
    key: PrivateKeyPEM | None,
    links: Sequence[ProviderLink] | None,
    is_revoked: bool,
) -> dict[str, Any]:
    """Return the entry as the dialect's plain values, in the seed's order.

    links: where its copies are; None leaves the field out.
    key: the current version's, None for callers who may not see it. From here it goes into the answer alone.

    Until it is issued it has the names that it was asked for, but no certificate and no dates.
    """
    version = entry.current
    facts = version.facts if version else None
    fields: dict[str, Any] = {}
    if links is not None:
        fields["links"] = [{"link": at.link, "provider": at.provider, "region": at.region} for at in links]
    fields |= {
        "cert_body": version.chain_pem if version else "",
        "expires": facts.not_after.astimezone(UTC).date().isoformat() if facts else None,
        "id": entry.id,
        "issuer": facts.issuer if facts else "",
        "le_auto_renew": entry.le_auto_renew,
        "le_auto_replace": entry.le_auto_replace,
        "le_hash": version.le_hash if version else _hash_asked(entry),
        "private_key": key.reveal() if key else "",
        "san": facts.san if facts else entry.identifiers,
        "subject": facts.subject if facts else "",
        "uploaded": format_instant(entry.uploaded),
        "revoked": is_revoked,
        "crl": entry.crl if entry.side.is_ca_bundle else (),
        "cdp": facts.cdp if facts else (),
        "side": dialect.write_side(entry.side),
    }
    if dialect.has_name:
        fields["name"] = entry.id
    return fields


def render_extracted(key: PrivateKeyPEM | None, chain_pem: str) -> dict[str, str]:
    """Return key and certificates of a file that the caller has sent. From here the key goes into the answer alone."""
    return {"private_key": key.reveal() if key else "", "certificate_body": chain_pem}


def _hash_asked(entry: Entry) -> str:
    return hash_identifiers(entry.identifiers) if entry.source is Source.GENERATED else ""
