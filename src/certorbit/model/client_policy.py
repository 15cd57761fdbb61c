"""How the clients of a certificate are checked: which CAs they must come from, and whether they must at all."""

from dataclasses import dataclass
from hashlib import sha256

from certorbit.model.entry import EntryID
from certorbit.model.site import ClientCertificateMode


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """What a target checks clients by. There is none for mode off.

    mode: ON: nobody gets in without a good certificate. OPTIONAL: one that is shown must be good.
    bundle: the entry (side clientCA) that the CAs come from, for messages and records.
    ca_pem: the CAs' certificates. crl_pem: their revocation lists, one after the other; "": none are checked.
    """

    mode: ClientCertificateMode
    bundle: EntryID
    ca_pem: str
    crl_pem: str

    @property
    def digest(self) -> str:
        """Lower-case hex SHA-256 of all that it means: another digest is another policy."""
        parts = (self.mode.value, self.ca_pem, self.crl_pem)
        return sha256("\0".join(parts).encode()).hexdigest()

    @property
    def mark(self) -> "PolicyMark":
        return PolicyMark(mode=self.mode, bundle=self.bundle, digest=self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMark:
    """A policy as attachments remember it. Fields as in `ClientPolicy`."""

    mode: ClientCertificateMode
    bundle: EntryID
    digest: str


def mark_to_json(mark: PolicyMark | None) -> dict[str, str] | None:
    """Return the mark as a JSON value for a row."""
    if mark is None:
        return None
    return {"mode": mark.mode.value, "bundle": mark.bundle, "digest": mark.digest}


def mark_from_json(stored: dict[str, str] | None) -> PolicyMark | None:
    """Return what `mark_to_json` wrote."""
    if stored is None:
        return None
    return PolicyMark(
        mode=ClientCertificateMode(stored["mode"]), bundle=EntryID(stored["bundle"]), digest=stored["digest"]
    )
