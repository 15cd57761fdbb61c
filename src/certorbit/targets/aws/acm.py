"""ACM: the store of certificates, one per region. All listeners of a region share a copy.

An import can't be taken back and each one counts towards the account's quota of a year, so a finished one never runs
again: what is there is looked at first, and what was imported is found by its tags and its leaf when the answer was
lost.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from cryptography import x509

from certorbit.clock import Chance, Clock
from certorbit.errors import BadMaterial, TargetGone, TargetRefused, Unreachable
from certorbit.model.backoff import Poll
from certorbit.model.balancer import Bundle, Copy
from certorbit.pki.pem import read_certificates, write_certificates
from certorbit.pki.read import read_facts
from certorbit.ports.target import QuotaLedger
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.import_rules import CLOUDFRONT_SCOPE, KEY_TYPES, MOST_KEY_BYTES, check_bundle, fits_in_place
from certorbit.targets.aws.session import CLOUDFRONT_REGION, Connection, Listing

log = structlog.get_logger(__name__)

QUOTA_KIND: Final = "acm-import"
QUOTA_DAYS: Final = 365
ENTRY_TAG: Final = "certorbit:entry"
TARGET_TAG: Final = "certorbit:target"
SCOPE_TAG: Final = "certorbit:scope"
_ARN: Final = re.compile(r"arn:[a-z-]+:acm:([a-z0-9-]+):\d{12}:certificate/[A-Za-z0-9-]+\Z")
_CERTIFICATES: Final = Listing("acm", "ListCertificates", "CertificateSummaryList", "NextToken", "NextToken")
_TAGGED: Final = Listing(
    "resourcegroupstaggingapi", "GetResources", "ResourceTagMappingList", "PaginationToken", "PaginationToken"
)
# After an import without an answer: ACM's list shows a new certificate within seconds.
_LOOKS: Final = Poll(first=1.0, longest=4.0, factor=2.0)
_MOST_LOOKS: Final = 4
_FINGERPRINTS_AT_ONCE: Final = 4  # ACM allows 10 GetCertificate a second


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An import: where to, and what must be there afterwards."""

    bundle: Bundle
    scope: str
    region: str
    chain: tuple[x509.Certificate, ...]

    @property
    def subject(self) -> str:
        return f"{self.bundle.entry_id} in {self.region}"


class CertificateStore:
    def __init__(
        self,
        settings: AWSTargetSettings,
        connection: Connection,
        *,
        quota: QuotaLedger,
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._quota = quota
        self._clock = clock
        self._chance = chance

    async def install(self, bundle: Bundle, *, scope: str, present: Copy | None) -> Copy:
        check_bundle(bundle, target=self._settings.name, scope=scope)
        region = CLOUDFRONT_REGION if scope == CLOUDFRONT_SCOPE else scope
        wanted = _Wanted(bundle, scope, region, read_certificates(bundle.chain_pem))
        handle = present.handle if present is not None and find_region(present.handle) == region else ""
        held = await self._read_chain(handle) if handle else ()
        if not held or not fits_in_place(held[0], wanted.chain[0]):
            handle = ""
        if not (handle and _is_same(held, wanted.chain)):
            handle = await self._find(wanted) or await self._import(wanted, handle)
        await self._tag(wanted, handle)
        return Copy(handle=handle, link=handle)

    async def remove(self, handle: str) -> None:
        region = find_region(handle)
        if not region:
            raise TargetRefused(
                f"{self._settings.name}: {handle[:200]!r} is not an ACM certificate, so it is not one of ours.",
                subject=handle,
            )
        try:
            tags = await self._read_tags(handle)
            if not self._is_ours(tags):
                raise TargetRefused(
                    f"{self._settings.name}: {handle} doesn't carry our tags ({TARGET_TAG} = {self._settings.name},"
                    f" {ENTRY_TAG}), so it is not deleted.",
                    subject=handle,
                )
            await self._call("DeleteCertificate", region, {"CertificateArn": handle}, subject=handle)
        except TargetGone:
            return
        log.info("target.copy_removed", target=self._settings.name, handle=handle)

    async def list_copies(self, regions: Sequence[str]) -> Mapping[str, str]:
        """Return our copies in these regions with their leaves' fingerprints. One call per 100 certificates finds them.

        The tags' index lags a little behind ACM itself.
        """
        mine = {
            "TagFilters": [{"Key": TARGET_TAG, "Values": [self._settings.name]}, {"Key": ENTRY_TAG}],
            "ResourceTypeFilters": ["acm:certificate"],
            "ResourcesPerPage": 100,
        }
        pages = await asyncio.gather(
            *(self._connection.list_all(_TAGGED, region, mine, subject=region) for region in regions)
        )
        handles = [str(found["ResourceARN"]) for page in pages for found in page]
        room = asyncio.Semaphore(_FINGERPRINTS_AT_ONCE)

        async def read(handle: str) -> tuple[x509.Certificate, ...]:
            async with room:
                return await self._read_chain(handle)

        chains = await asyncio.gather(*(read(handle) for handle in handles))
        return {
            handle: read_facts(chain[0]).fingerprint for handle, chain in zip(handles, chains, strict=True) if chain
        }

    async def is_ours(self, handle: str) -> bool:
        """Return whether the certificate was imported by this target. A certificate of IAM's isn't."""
        try:
            return bool(find_region(handle)) and self._is_ours(await self._read_tags(handle))
        except TargetGone:
            return False

    async def _find(self, wanted: _Wanted) -> str:
        """Return the copy that an earlier run of the same install made, "" if there is none."""
        algorithm = KEY_TYPES[wanted.bundle.facts.key_algorithm]
        # Without `keyTypes` ACM lists RSA with 1024 and 2048 bits only.
        asked = {"Includes": {"keyTypes": [algorithm]}}
        for found in await self._connection.list_all(_CERTIFICATES, wanted.region, asked, subject=wanted.region):
            if not _may_be(found, not_after=wanted.bundle.facts.not_after):
                continue
            handle = str(found["CertificateArn"])
            try:
                tags = await self._read_tags(handle)
            except TargetGone:
                continue
            is_entry = tags.get(ENTRY_TAG) == wanted.bundle.entry_uid and tags.get(SCOPE_TAG) == wanted.scope
            if self._is_ours(tags) and is_entry and _is_same(await self._read_chain(handle), wanted.chain):
                return handle
        return ""

    async def _import(self, wanted: _Wanted, handle: str) -> str:
        """Import and return the ARN. handle: the copy whose place it takes; "": a new one."""
        request = self._write_request(wanted, handle)
        account = (await self._connection.identity())["Account"]
        name = f"{account}/{wanted.region}"
        await self._quota.spend(name, QUOTA_KIND, limit=self._settings.imports_per_year, days=QUOTA_DAYS)
        try:
            answer = await self._call(
                "ImportCertificate", wanted.region, request, subject=wanted.subject, is_repeatable=False
            )
        except Unreachable as error:
            imported = await self._look_again(wanted, handle) if error.was_sent else ""
            if not imported:
                raise
            return imported
        imported = str(answer["CertificateArn"])
        log.info("target.imported", target=self._settings.name, handle=imported, is_in_place=bool(handle))
        return imported

    async def _look_again(self, wanted: _Wanted, handle: str) -> str:
        """Return what an import without an answer left behind, "" if nothing is seen."""
        for turn in range(_MOST_LOOKS):
            await self._clock.sleep(_LOOKS.pause(turn, uniform=self._chance.between))
            if not handle and (found := await self._find(wanted)):
                return found
            if handle and _is_same(await self._read_chain(handle), wanted.chain):
                return handle
        return ""

    def _write_request(self, wanted: _Wanted, handle: str) -> dict[str, Any]:
        key = check_bundle(wanted.bundle, target=self._settings.name, scope=wanted.scope)
        request: dict[str, Any] = {"Certificate": write_certificates(wanted.chain[:1]).encode()}
        if wanted.chain[1:]:
            request["CertificateChain"] = write_certificates(wanted.chain[1:]).encode()
        # ACM refuses tags when a certificate takes another one's place: those of the ARN stay.
        request |= {"CertificateArn": handle} if handle else {"Tags": self._tags(wanted)}
        request["PrivateKey"] = key.reveal().encode()
        if len(request["PrivateKey"]) > MOST_KEY_BYTES:
            raise TargetRefused(
                f"{self._settings.name}: ACM takes keys of up to {MOST_KEY_BYTES} bytes, {wanted.bundle.entry_id} has a"
                " longer one.",
                subject=wanted.bundle.entry_id,
            )
        return request

    def _tags(self, wanted: _Wanted) -> list[dict[str, str]]:
        bundle = wanted.bundle
        ours = {
            TARGET_TAG: self._settings.name,
            SCOPE_TAG: wanted.scope,
            ENTRY_TAG: bundle.entry_uid,
            "certorbit:config": bundle.config,
            "certorbit:id": bundle.entry_id,
            "certorbit:version": bundle.version,
        }
        return [{"Key": key, "Value": value} for key, value in {**self._settings.tags, **ours}.items()]

    async def _tag(self, wanted: _Wanted, handle: str) -> None:
        """Write the tags that an import in place leaves as they were: the version, changed settings."""
        tags = {"CertificateArn": handle, "Tags": self._tags(wanted)}
        await self._call("AddTagsToCertificate", wanted.region, tags, subject=handle)

    async def _read_tags(self, handle: str) -> Mapping[str, str]:
        region = find_region(handle)
        answer = await self._call("ListTagsForCertificate", region, {"CertificateArn": handle}, subject=handle)
        return {tag["Key"]: tag.get("Value", "") for tag in answer.get("Tags", ())}

    async def _read_chain(self, handle: str) -> tuple[x509.Certificate, ...]:
        """Return the leaf and its issuers; () if there is no such certificate."""
        try:
            answer = await self._call("GetCertificate", find_region(handle), {"CertificateArn": handle}, subject=handle)
            return read_certificates(answer["Certificate"] + "\n" + answer.get("CertificateChain", ""))
        except TargetGone:
            return ()
        except BadMaterial as error:
            raise TargetRefused(
                f"{self._settings.name}: ACM answers no readable certificate for {handle}.", subject=handle
            ) from error

    def _is_ours(self, tags: Mapping[str, str]) -> bool:
        return tags.get(TARGET_TAG) == self._settings.name and bool(tags.get(ENTRY_TAG))

    async def _call(
        self, operation: str, region: str, parameters: Mapping[str, Any], *, subject: str, is_repeatable: bool = True
    ) -> Mapping[str, Any]:
        return await self._connection.call(
            "acm", region, operation, parameters, subject=subject, is_repeatable=is_repeatable
        )


def find_region(handle: str) -> str:
    """Return the region of an ACM certificate's ARN; "" if it is something else."""
    match = _ARN.match(handle)
    return match[1] if match else ""


def _is_same(held: Sequence[x509.Certificate], wanted: Sequence[x509.Certificate]) -> bool:
    """Return whether ACM holds this leaf, and all issuers that are to be sent with it."""
    return bool(held) and held[0] == wanted[0] and set(wanted) <= set(held)


def _may_be(found: Mapping[str, Any], *, not_after: datetime) -> bool:
    """Return whether a listed certificate can be the one that ends at this instant; spares calls for all others."""
    end = found.get("NotAfter")
    same_end = not isinstance(end, datetime) or int(end.timestamp()) == int(not_after.timestamp())
    return found.get("Type") == "IMPORTED" and same_end
