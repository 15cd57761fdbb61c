"""What differs between two versions of an entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from certorbit.model.entry import Version


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that differs."""

    field: str
    before: str | int | datetime
    after: str | int | datetime


@dataclass(frozen=True, slots=True)
class VersionDifference:
    """names_added, names_removed: sorted. changes: in a fixed order, only what differs."""

    names_added: tuple[str, ...]
    names_removed: tuple[str, ...]
    changes: tuple[Change, ...]


def compare_versions(before: Version, after: Version) -> VersionDifference:
    """Return what the second version has other than the first one. The serial always differs and isn't named."""
    old, new = set(before.facts.san), set(after.facts.san)
    facts = zip(_comparable(before), _comparable(after), strict=True)
    return VersionDifference(
        names_added=tuple(sorted(new - old)),
        names_removed=tuple(sorted(old - new)),
        changes=tuple(Change(field, was, becomes) for (field, was), (_, becomes) in facts if was != becomes),
    )


def _comparable(version: Version) -> Sequence[tuple[str, str | int | datetime]]:
    facts = version.facts
    return (
        ("not_before", facts.not_before),
        ("not_after", facts.not_after),
        ("source", version.source.value),
        ("issuer", version.issuer_name),
        ("issuer_subject", facts.issuer),
        ("subject", facts.subject),
        ("key_algorithm", facts.key_algorithm),
        ("public_key_sha256", facts.public_key_sha256),
        ("chain_length", version.chain_pem.count("-----BEGIN CERTIFICATE-----")),
    )
