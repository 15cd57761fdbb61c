"""What a client asks for, after the dialect is read and before the rules are applied."""

from dataclasses import dataclass, field

from certorbit.model.entry import ConfigID, EntryID, ProviderLink, Side
from certorbit.model.identifiers import Identifier
from certorbit.model.material import Material


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Store this material under this id. `material` is already read and checked (`pki.read_upload`)."""

    config: ConfigID
    id: EntryID
    side: Side
    material: Material
    le_auto_renew: bool
    le_auto_replace: bool
    provider_links: tuple[ProviderLink, ...] = ()
    crl: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Get a certificate for these identifiers from the configured issuer and keep it under this id."""

    config: ConfigID
    id: EntryID
    side: Side
    identifiers: tuple[Identifier, ...]
    le_auto_renew: bool
    le_auto_replace: bool
    provider_links: tuple[ProviderLink, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEntry:
    """Change an entry's flags; with `replace`, everything that uses that entry uses this one instead."""

    config: ConfigID
    id: EntryID
    le_auto_renew: bool
    le_auto_replace: bool
    replace: EntryID | None = field(default=None)
