"""Names and links of things in Google Cloud, and the marks by which we know our own."""

import re
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial
from certorbit.model.balancer import Bundle
from certorbit.model.entry import EntryID
from certorbit.pki.pem import read_certificates

LONGEST_NAME: Final = 63  # facts.md 3.6: `[a-z]([-a-z0-9]*[a-z0-9])?`, 1-63 characters, in both APIs
_HASH_LENGTH: Final = 10  # 40 bits of the thing's own id; a clash would be refused, not overwritten
_LINK_BASE: Final = "https://www.googleapis.com/compute/v1/"
_PATH: Final = re.compile(r"(?:^|/)(projects/[^/]+/.+)\Z")
_PROJECT_NUMBER: Final = re.compile(r"\Aprojects/\d+/")


def name_by_version(bundle: Bundle) -> str:
    """Return the name of an immutable copy: of this version alone, so that a repeat finds it.

    It ends in `-<entry id>` where that fits, since clients find their certificate by that (contract.md).
    """
    prefix = f"c-{_hash(bundle.version, bundle.facts.fingerprint)}"
    return _with_entry(prefix, bundle.entry_id) or f"{prefix}-{bundle.facts.not_before:%Y%m%d}"


def name_by_entry(bundle: Bundle, *, owner: str) -> str:
    """Return the name of a copy that is changed in place: the same one for all versions of the entry."""
    prefix = f"c-{_hash(owner, bundle.entry_uid)}"
    return _with_entry(prefix, bundle.entry_id) or prefix


def name_by_hostname(hostname: str) -> str:
    """Return the name of a certificate map's entry for a host name, or for "" of the primary one."""
    return f"c-{_hash('hostname', hostname)}" if hostname else "c-primary"


def describe(bundle: Bundle, *, owner: str) -> str:
    """Return the description that marks a copy as ours and says what it is."""
    return f"{_mark(owner)}{bundle.config}/{bundle.entry_id} version {bundle.version}"


def is_described_by(description: str, *, owner: str) -> bool:
    return description.startswith(_mark(owner))


def make_link(path: str) -> str:
    """Return the self link of a path (`projects/…`) as Compute writes it, whatever host was asked."""
    return _LINK_BASE + path


def normalise_link(link: str) -> str:
    """Return a Compute link in one form: hosts and API versions differ. Links to other services stay as they are."""
    if link.startswith("//"):
        return link
    found = _PATH.search(link)
    return make_link(found[1]) if found else link


def find_path(link: str) -> str:
    """Return the part of a link from the project's scope on: `global/targetHttpsProxies/web`; "" if there is none."""
    found = _PATH.search(link)
    return found[1].split("/", 2)[2] if found else ""


def normalise_name(name: str, *, project: str) -> str:
    """Return a Certificate Manager name with the project's id; the API gives its number here and there."""
    return _PROJECT_NUMBER.sub(f"projects/{project}/", name)


def find_fingerprint(pem: object) -> str:
    """Return the fingerprint (lower-case hex SHA-256) of the first certificate; "" if there is none to read."""
    try:
        certificates = read_certificates(pem, subject="certificate") if isinstance(pem, str) else ()
    except BadMaterial:
        return ""
    return sha256(certificates[0].public_bytes(Encoding.DER)).hexdigest() if certificates else ""


def _with_entry(prefix: str, entry: EntryID) -> str:
    name = f"{prefix}-{entry}"
    return name if len(name) <= LONGEST_NAME else ""


def _mark(owner: str) -> str:
    return f"{owner}: "


def _hash(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:_HASH_LENGTH]
