"""What a trust store is made of: its name, its tags, and the S3 objects that AWS reads it from. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial, TargetRefused
from certorbit.model.client_policy import ClientPolicy
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.pem import read_certificates, write_certificates
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.acm import TARGET_TAG

NAME_PREFIX: Final = "certorbit-"
POLICY_TAG: Final = "certorbit:policy"
CREATED_TAG: Final = "certorbit:created"
PLACE_TAG: Final = "certorbit:objects"
LISTS_TAG: Final = "certorbit:lists"
_DIGITS: Final = 22  # a name has 32 characters at most
_MOST_LISTS: Final = 1000  # in a tag; AWS's own quota is 30
_CRL: Final = re.compile(r"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TrustMaterial:
    """A policy as a trust store of one target.

    name: of the trust store, unique per region; another target or policy has another one. policy: its digest.
    bundle: the CAs as AWS wants them, PEM without empty lines. lists: one PEM file for each revocation list.
    authorities: how many CAs. ends: when the first list ends; None: there are no lists, or they never end.
    """

    name: str
    policy: str
    bundle: bytes
    lists: tuple[bytes, ...]
    authorities: int
    ends: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """The folder in S3 that one trust store is read from."""

    bucket: str
    folder: str

    @property
    def bundle_key(self) -> str:
        return f"{self.folder}ca.pem"

    def list_keys(self, count: int) -> tuple[str, ...]:
        return tuple(f"{self.folder}crl-{number}.pem" for number in range(1, count + 1))


def write_material(policy: ClientPolicy, *, target: str) -> TrustMaterial:
    """Return the policy as a trust store of the target.

    Raises:
        TargetRefused: the CAs or the lists can't be read.
    """
    try:
        authorities = read_certificates(policy.ca_pem, subject=policy.bundle)
        lists = [x509.load_pem_x509_crl(found.encode()) for found in _CRL.findall(policy.crl_pem)]
        texts = tuple(one.public_bytes(Encoding.PEM) for one in lists)
        ends = min((one.next_update_utc for one in lists if one.next_update_utc is not None), default=None)
    except (BadMaterial, *UNREADABLE) as error:
        raise _unreadable(policy, target) from error
    if policy.crl_pem.strip() and not lists:
        raise _unreadable(policy, target)
    return TrustMaterial(
        name=NAME_PREFIX + sha256(f"{target}\0{policy.digest}".encode()).hexdigest()[:_DIGITS],
        policy=policy.digest,
        bundle=write_certificates(authorities).encode(),
        lists=texts,
        authorities=len(authorities),
        ends=ends,
    )


def find_place(settings: AWSTargetSettings, region: str, name: str) -> Place:
    bucket = settings.trust_store_bucket.replace("{region}", region)
    return Place(bucket, f"{settings.trust_store_prefix}{region}/{name}/")


def write_tags(
    settings: AWSTargetSettings, material: TrustMaterial, place: Place, *, now: datetime
) -> list[dict[str, str]]:
    ours = {
        TARGET_TAG: settings.name,
        POLICY_TAG: material.policy,
        CREATED_TAG: now.isoformat(timespec="seconds"),
        PLACE_TAG: f"{place.bucket}/{place.folder}",
        LISTS_TAG: str(len(material.lists)),
    }
    return [{"Key": key, "Value": value} for key, value in {**settings.tags, **ours}.items()]


def is_ours(tags: Mapping[str, str], *, target: str) -> bool:
    return tags.get(TARGET_TAG) == target and bool(tags.get(POLICY_TAG))


def is_older(tags: Mapping[str, str], age: timedelta, *, now: datetime) -> bool:
    """Return whether the trust store was made longer ago; one that doesn't say when never was."""
    try:
        return datetime.fromisoformat(tags.get(CREATED_TAG, "")) + age < now
    except (ValueError, TypeError, OverflowError):  # no instant, one without a time zone, one that is out of range
        return False


def list_objects(tags: Mapping[str, str], *, region: str, name: str) -> tuple[str, Sequence[str]]:
    """Return the bucket and the keys that the trust store was read from; none if its tags name other places.

    Who may change tags can't make us delete anything but files of this trust store.
    """
    bucket, _, folder = tags.get(PLACE_TAG, "").partition("/")
    lists = tags.get(LISTS_TAG, "")
    if not f"/{folder}".endswith(f"/{region}/{name}/") or not re.fullmatch(r"[0-9]{1,4}", lists):
        return "", ()
    place = Place(bucket, folder)
    return bucket, (place.bundle_key, *place.list_keys(min(int(lists), _MOST_LISTS)))


def _unreadable(policy: ClientPolicy, target: str) -> TargetRefused:
    return TargetRefused(
        f"{target}: the CAs or revocation lists of {policy.bundle!r} can't be read; upload the bundle again.",
        subject=policy.bundle,
    )
