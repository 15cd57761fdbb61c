"""Amazon Route 53 through boto3, which is synchronous: each call runs in a thread.

Route 53 knows only whole record sets. A change is therefore a compare-and-swap: one batch, which Route 53 applies as
a whole or not at all, deletes exactly the set that we read and creates the new one. If another writer was quicker the
batch is refused, and we read again. UPSERT would overwrite what the other one wrote.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from certorbit.clock import Chance, Clock
from certorbit.errors import BadInput, SolverFailed
from certorbit.model.backoff import Poll
from certorbit.solver_settings import Route53SolverSettings
from certorbit.solvers.dns.tries import failure

KIND: Final = "route53"
MOST_SWAPS: Final = 8  # lost races at one name before we give up
_SWAP_PAUSES: Final = Poll(first=0.2, longest=5.0, factor=2.0)
_SYNC: Final = Poll(first=1.0, longest=8.0, limit=300.0)  # Amazon: usually within 60 seconds
_HINT: Final = (
    "Check the credentials and that they may call route53:ListHostedZonesByName, ListResourceRecordSets,"
    " ChangeResourceRecordSets and GetChange."
)

T = TypeVar("T")
RecordSet = Mapping[str, Any]
Answer = Mapping[str, Any]


class Route53Client(Protocol):
    """The calls of boto3's client that we use."""

    def list_hosted_zones_by_name(self, *, DNSName: str, MaxItems: str) -> Answer: ...  # noqa: N803 - boto3's names

    def list_resource_record_sets(
        self,
        *,
        HostedZoneId: str,  # noqa: N803
        StartRecordName: str,  # noqa: N803
        StartRecordType: str,  # noqa: N803
        MaxItems: str,  # noqa: N803
    ) -> Answer: ...

    def change_resource_record_sets(self, *, HostedZoneId: str, ChangeBatch: Mapping[str, Any]) -> Answer: ...  # noqa: N803

    def get_change(self, *, Id: str) -> Answer: ...  # noqa: N803

    def close(self) -> None: ...


class _SwapLost(Exception):
    """Another writer changed the record set between our look and our change."""


class Route53Writer:
    """Writes into the hosted zones of one account.

    Args:
        client: boto3's, made from the settings unless it is given.

    Raises:
        BadInput: boto3 isn't installed.
    """

    def __init__(
        self, settings: Route53SolverSettings, *, clock: Clock, chance: Chance, client: Route53Client | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._client = client or _connect(settings)
        self._errors = _foreign_errors()
        self._zone_ids: dict[str, str] = {}

    @property
    def kind(self) -> str:
        return KIND

    async def add_txt(self, name: str, value: str, *, zone: str) -> str:
        def added(values: Sequence[str]) -> Sequence[str]:
            return values if quoted(value) in values else [*values, quoted(value)]

        return await self._swap(name, added, zone=zone)

    async def wait_applied(self, reference: str) -> None:
        """Return when the change is INSYNC: on all of Route 53's name servers."""
        if not reference:
            return
        end = self._clock.now() + timedelta(seconds=_SYNC.limit)
        turn = 0
        while True:
            answer = await self._call(partial(self._client.get_change, Id=reference), zone=reference)
            if answer["ChangeInfo"]["Status"] == "INSYNC":
                return
            if self._clock.now() >= end:
                raise failure(
                    KIND, f"the change {reference} is not INSYNC after {_SYNC.limit:g} s", zone=reference, hint=_HINT
                )
            await self._clock.sleep(_SYNC.pause(turn, uniform=self._chance.between))
            turn += 1

    async def remove_txt(self, name: str, value: str, *, zone: str) -> None:
        await self._swap(name, lambda values: [v for v in values if v != quoted(value)], zone=zone)

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)

    async def _swap(self, name: str, change: Callable[[Sequence[str]], Sequence[str]], *, zone: str) -> str:
        """Apply the change to the set's values and return the change's id, "" when there was nothing to do."""
        zone_id = await self._find_zone_id(zone)
        words = ""
        for turn in range(MOST_SWAPS):
            current = await self._read(name, zone_id=zone_id, zone=zone)
            old = [record["Value"] for record in current["ResourceRecords"]] if current else []
            new = change(old)
            if list(new) == old:
                return ""
            batch = self._batch(name, current=current, new=new)
            try:
                return await self._change(batch, zone_id=zone_id, zone=zone)
            except _SwapLost as lost:
                words = _shown(lost)
                await self._clock.sleep(_SWAP_PAUSES.pause(turn, uniform=self._chance.between))
        reason = f"the change of {name} was refused {MOST_SWAPS} times, the last time with: {words}"
        raise failure(KIND, reason, zone=zone, hint="Something else writes there in a loop, or the record can't be.")

    def _batch(self, name: str, *, current: RecordSet | None, new: Sequence[str]) -> list[Mapping[str, Any]]:
        changes: list[Mapping[str, Any]] = []
        if current:
            changes.append({"Action": "DELETE", "ResourceRecordSet": current})
        if new:
            records = [{"Value": value} for value in new]
            wanted = {"Name": name + ".", "Type": "TXT", "TTL": self._settings.ttl, "ResourceRecords": records}
            changes.append({"Action": "CREATE", "ResourceRecordSet": wanted})
        return changes

    async def _change(self, batch: Sequence[Mapping[str, Any]], *, zone_id: str, zone: str) -> str:
        change_batch = {"Comment": "Certorbit, ACME dns-01", "Changes": batch}
        send = partial(self._client.change_resource_record_sets, HostedZoneId=zone_id, ChangeBatch=change_batch)
        return str((await self._call(send, zone=zone))["ChangeInfo"]["Id"])

    async def _read(self, name: str, *, zone_id: str, zone: str) -> RecordSet | None:
        """Return the TXT record set of a name in the form in which it is deleted."""
        look = partial(
            self._client.list_resource_record_sets,
            HostedZoneId=zone_id,
            StartRecordName=name + ".",
            StartRecordType="TXT",
            MaxItems="1",
        )
        for found in (await self._call(look, zone=zone))["ResourceRecordSets"]:
            if found["Name"].rstrip(".").lower() == name and found["Type"] == "TXT":
                if "SetIdentifier" in found or "ResourceRecords" not in found:
                    reason = f"{name} is an alias or has a routing policy"
                    raise failure(KIND, reason, zone=zone, hint="Make it a simple TXT record, or delete it.")
                record_set: RecordSet = found
                return record_set
        return None

    async def _find_zone_id(self, zone: str) -> str:
        if self._settings.hosted_zone_id:
            return self._settings.hosted_zone_id
        if zone not in self._zone_ids:
            look = partial(self._client.list_hosted_zones_by_name, DNSName=zone + ".", MaxItems="10")
            zones = (await self._call(look, zone=zone))["HostedZones"]
            ids = [
                found["Id"].rpartition("/")[2]
                for found in zones
                if found["Name"].rstrip(".").lower() == zone and not found.get("Config", {}).get("PrivateZone")
            ]
            if len(ids) != 1:
                reason = f"the account has {len(ids) or 'no'} public hosted zone{'s' * (len(ids) > 1)} of this name"
                raise failure(KIND, reason, zone=zone, hint="Set the solver's hosted_zone_id (and dns_zone).")
            self._zone_ids[zone] = ids[0]
        return self._zone_ids[zone]

    async def _call(self, call: Callable[[], T], *, zone: str) -> T:
        """Call in a thread. boto3 itself tries again, with pauses, and bounds the time (`_connect`)."""
        try:
            return await asyncio.to_thread(call)
        except self._errors as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            if code == "InvalidChangeBatch":
                raise _SwapLost(str(error)) from error
            raise _refused(error, zone=zone) from error


def quoted(value: str) -> str:
    """Return a TXT value in Route 53's form. Base64url holds nothing that has to be escaped."""
    return f'"{value}"'


def _refused(error: Exception, *, zone: str) -> SolverFailed:
    return failure(KIND, f"Amazon says: {_shown(error)}", zone=zone, hint=_HINT)


def _shown(error: Exception) -> str:
    return str(error)[:300].rstrip(".")


def _foreign_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra

    return (BotoCoreError, ClientError)


def _connect(settings: Route53SolverSettings) -> Route53Client:
    try:
        import boto3  # noqa: PLC0415 - an extra: loaded only by who uses it
        from botocore.config import Config  # noqa: PLC0415 - as above
    except ImportError as error:
        raise BadInput(
            "solvers: type route53 needs boto3, which is not installed: pip install 'certorbit[route53]'.",
            subject="solvers",
        ) from error
    # "standard": up to 5 tries with jittered, growing pauses, also when Amazon throttles.
    bounds = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "max_attempts": 5})
    client: Route53Client = boto3.session.Session().client(
        "route53",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url or None,
        aws_access_key_id=settings.access_key_id or None,
        aws_secret_access_key=settings.secret_access_key.get_secret_value() or None,
        config=bounds,
    )
    return client
