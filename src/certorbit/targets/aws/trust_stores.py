"""Trust stores: CAs and revocation lists that an ALB checks client certificates by. They lie in a region, like copies.

There is one per policy, shared by the listeners of the region. It is never changed: another policy is another one, so
a listener gets CAs and lists in one step. Its name comes from the policy, so what an earlier run made is found, and
two processes that want the same make it together:

- CreateTrustStore takes the CAs alone. The lists are added by one call, which AWS carries out as a whole; a trust store
  is used when DescribeTrustStoreRevocations shows as many lists as the policy has.
- Added twice, by two processes at once, a list is there twice, which changes nothing.

AWS reads the S3 objects with the caller's rights (the CloudFormation type AWS::ElasticLoadBalancingV2::TrustStore
demands s3:GetObject of its caller), so while a call runs. They are left where they are as long as the trust store.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside, TargetFull, TargetRefused, Unreachable
from certorbit.model.backoff import Poll
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.refusals import find_code
from certorbit.targets.aws.session import Answer, Connection, Listing
from certorbit.targets.aws.trust_material import (
    NAME_PREFIX,
    POLICY_TAG,
    Place,
    TrustMaterial,
    find_place,
    is_older,
    is_ours,
    list_objects,
    write_tags,
)

log = structlog.get_logger(__name__)

NOT_FOUND: Final = "TrustStoreNotFound"
_STORES: Final = Listing("elbv2", "DescribeTrustStores", "TrustStores", "Marker", "NextMarker")
_LISTS: Final = Listing("elbv2", "DescribeTrustStoreRevocations", "TrustStoreRevocations", "Marker", "NextMarker")
_USERS: Final = Listing("elbv2", "DescribeTrustStoreAssociations", "TrustStoreAssociations", "Marker", "NextMarker")
_CREATION: Final = Poll(first=1.0, longest=5.0, limit=120.0)
_SETTLING: Final = Poll(first=1.0, longest=5.0, limit=10.0)
_ADDITION: Final = Poll(first=1.0, longest=5.0, limit=45.0)
_USUAL_AUTHORITIES: Final = 25  # AWS's default quota of CA certificates per trust store
_MOST_ARNS: Final = 20  # of DescribeTags
# Another process may have made it, and not yet given it to a listener.
_UNUSED: Final = timedelta(minutes=15)


class TrustStores:
    def __init__(self, settings: AWSTargetSettings, connection: Connection, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._connection = connection
        self._clock = clock
        self._chance = chance

    async def is_ours(self, arn: str, region: str) -> bool:
        """Return whether this target made the trust store. One with another name isn't asked about."""
        if f":truststore/{NAME_PREFIX}" not in arn:
            return False
        tags = (await self._read_tags(region, [arn])).get(arn, {})
        return is_ours(tags, target=self._settings.name)

    async def provide(self, region: str, material: TrustMaterial) -> str:
        """Return the ARN of a trust store that has all of it and may be used.

        Raises, beside what all calls raise:
            TargetRefused: somebody else's has the name, or AWS doesn't get done. With the codes DuplicateTrustStoreName
                and TrustStoreNotFound: another process was quicker; the same again helps.
            TargetFull: as many trust stores, CAs or revoked certificates as AWS allows.
        """
        found = await self._find(region, material.name)
        if found:
            arn = found
            tags = (await self._read_tags(region, [arn])).get(arn, {})
            if not is_ours(tags, target=self._settings.name) or tags[POLICY_TAG] != material.policy:
                raise self._refuse(
                    f"there is a trust store {material.name} in {region} already, without our tags; delete it", arn
                )
        else:
            arn = await self._create(region, material)
        await self._wait_until_active(region, arn)
        if material.lists:
            await self._complete(region, arn, material, is_new=not found)
        return arn

    async def sweep(self, region: str, *, keep: str = "") -> None:
        """Delete this target's trust stores that no listener uses. What can't be done is left to the next time.

        keep: the ARN of the one that is in use, which spares a call.
        """
        try:
            stores = await self._connection.list_all(_STORES, region, {}, subject=region)
            named = {str(one["TrustStoreArn"]): str(one["Name"]) for one in stores}
            arns = [arn for arn, name in named.items() if name.startswith(NAME_PREFIX) and arn != keep]
            for arn, tags in (await self._read_tags(region, arns)).items():
                if is_ours(tags, target=self._settings.name) and is_older(tags, _UNUSED, now=self._clock.now()):
                    await self._delete_unused(region, arn, name=named[arn], tags=tags)
        except Outside as error:
            log.warning("target.sweep_failed", target=self._settings.name, region=region, message=error.message)

    async def _find(self, region: str, name: str) -> str:
        try:
            found = await self._connection.list_all(_STORES, region, {"Names": [name]}, subject=name)
        except TargetRefused as error:
            if find_code(error) != NOT_FOUND:
                raise
            return ""
        return str(found[0]["TrustStoreArn"]) if found else ""

    async def _create(self, region: str, material: TrustMaterial) -> str:
        place = find_place(self._settings, region, material.name)
        await self._put(region, place, {place.bundle_key: material.bundle})
        request = {
            "Name": material.name,
            "CaCertificatesBundleS3Bucket": place.bucket,
            "CaCertificatesBundleS3Key": place.bundle_key,
            "Tags": write_tags(self._settings, material, place, now=self._clock.now()),
        }
        try:
            answer = await self._call("CreateTrustStore", region, request, subject=material.name)
        except TargetRefused as error:
            if find_code(error) == "InvalidCaCertificatesBundle" and material.authorities > _USUAL_AUTHORITIES:
                raise TargetFull(
                    f"{error.message} It has {material.authorities} CAs; AWS's quota is {_USUAL_AUTHORITIES} per trust"
                    " store, unless it was raised for the account.",
                    subject=material.name,
                ) from error
            raise
        arn = str(answer["TrustStores"][0]["TrustStoreArn"])
        log.info("target.trust_store_created", target=self._settings.name, region=region, arn=arn)
        return arn

    async def _wait_until_active(self, region: str, arn: str) -> None:
        async def is_active() -> bool:
            found = await self._connection.list_all(_STORES, region, {"TrustStoreArns": [arn]}, subject=arn)
            return bool(found) and found[0].get("Status") == "ACTIVE"

        if not await self._poll(is_active, _CREATION):
            raise self._refuse(f"{arn} isn't active after {_CREATION.limit:g} s; it is looked at again", arn)

    async def _complete(self, region: str, arn: str, material: TrustMaterial, *, is_new: bool) -> None:
        """Make sure that all lists are in the trust store."""
        count, wanted = 0, len(material.lists)

        async def has_all() -> bool:
            nonlocal count
            count = await self._count_lists(region, arn)
            return count >= wanted

        # Somebody may just have added them, or be about to.
        if not is_new and await self._poll(has_all, _SETTLING):
            return
        lost = await self._add_lists(region, arn, material) if count == 0 else None
        if await self._poll(has_all, _ADDITION):
            return
        if lost is not None:
            raise lost
        if count:
            await self._call("DeleteTrustStore", region, {"TrustStoreArn": arn}, subject=arn)
        raise self._refuse(
            f"{arn} has {count} of {wanted} revocation lists, so it can't be used; it is made anew at the next try", arn
        )

    async def _add_lists(self, region: str, arn: str, material: TrustMaterial) -> Unreachable | None:
        """Add all lists by one call; return why no answer came, if none did."""
        place = find_place(self._settings, region, material.name)
        files = dict(zip(place.list_keys(len(material.lists)), material.lists, strict=True))
        await self._put(region, place, files)
        contents = [{"S3Bucket": place.bucket, "S3Key": key, "RevocationType": "CRL"} for key in files]
        request = {"TrustStoreArn": arn, "RevocationContents": contents}
        try:
            await self._call("AddTrustStoreRevocations", region, request, subject=arn, is_repeatable=False)
        except Unreachable as error:
            if not error.was_sent:
                raise
            return error
        return None

    async def _count_lists(self, region: str, arn: str) -> int:
        return len(await self._connection.list_all(_LISTS, region, {"TrustStoreArn": arn}, subject=arn))

    async def _put(self, region: str, place: Place, files: Mapping[str, bytes]) -> None:
        """Write the objects; harmless to repeat.

        Into a bucket of the own account only: after somebody else took the name of a deleted bucket, he would choose
        the CAs.
        """
        account = str((await self._connection.identity())["Account"])
        for key, content in files.items():
            written = {"Bucket": place.bucket, "Key": key, "Body": content, "ExpectedBucketOwner": account}
            subject = f"s3://{place.bucket}/{key}"
            await self._connection.call("s3", region, "PutObject", written, subject=subject)

    async def _delete_unused(self, region: str, arn: str, *, name: str, tags: Mapping[str, str]) -> None:
        """Delete the trust store, then its objects. AWS refuses it if a listener has come to use it meanwhile."""
        if await self._connection.list_all(_USERS, region, {"TrustStoreArn": arn}, subject=arn):
            return
        try:
            await self._call("DeleteTrustStore", region, {"TrustStoreArn": arn}, subject=arn)
        except TargetRefused as error:
            if find_code(error) not in {NOT_FOUND, "TrustStoreInUse"}:
                raise
            return
        log.info("target.trust_store_deleted", target=self._settings.name, region=region, arn=arn)
        bucket, keys = list_objects(tags, region=region, name=name)
        for key in keys:
            gone = {"Bucket": bucket, "Key": key}
            await self._connection.call("s3", region, "DeleteObject", gone, subject=f"s3://{bucket}/{key}")

    async def _read_tags(self, region: str, arns: list[str]) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, Mapping[str, str]] = {}
        for start in range(0, len(arns), _MOST_ARNS):
            part = arns[start : start + _MOST_ARNS]
            answer = await self._call("DescribeTags", region, {"ResourceArns": part}, subject=part[0])
            for described in answer.get("TagDescriptions", ()):
                tags = {tag["Key"]: tag.get("Value", "") for tag in described.get("Tags", ())}
                found[str(described["ResourceArn"])] = tags
        return found

    async def _poll(self, is_done: Callable[[], Awaitable[bool]], poll: Poll) -> bool:
        """Return whether it came to be done within the poll's limit."""
        end = self._clock.now() + timedelta(seconds=poll.limit)
        turn = 0
        while not await is_done():
            if self._clock.now() >= end:
                return False
            await self._clock.sleep(poll.pause(turn, uniform=self._chance.between))
            turn += 1
        return True

    async def _call(
        self, operation: str, region: str, parameters: Mapping[str, Any], *, subject: str, is_repeatable: bool = True
    ) -> Answer:
        return await self._connection.call(
            "elbv2", region, operation, parameters, subject=subject, is_repeatable=is_repeatable
        )

    def _refuse(self, why: str, subject: str) -> TargetRefused:
        return TargetRefused(f"{self._settings.name}: {why}.", subject=subject)
