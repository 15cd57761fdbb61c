"""`certorbit targets check` for AWS: what can be read is read, what would change something is asked of IAM's simulator.

The policy that grants all of it is in docs/targets/aws.md.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from certorbit.errors import CredentialsRefused, Outside, TargetGone, TargetRefused
from certorbit.ports.target import Finding, Grade
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.session import CLOUDFRONT_REGION, Connection
from certorbit.targets.aws.trust_material import NAME_PREFIX, find_place

# service: (an operation that reads and changes nothing, its parameters)
_READS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "acm": ("ListCertificates", {"MaxItems": 1}),
    "resourcegroupstaggingapi": ("GetResources", {"ResourceTypeFilters": ["acm:certificate"]}),
    "elbv2": ("DescribeLoadBalancers", {"PageSize": 1}),
    "elb": ("DescribeLoadBalancers", {"PageSize": 1}),
    "cloudfront": ("ListDistributions", {"MaxItems": "1"}),
}
# What a harmless call can't show: they change something, or need something that may not be there.
_ACM_RIGHTS: Final = (
    "acm:GetCertificate",
    "acm:ListTagsForCertificate",
    "acm:ImportCertificate",
    "acm:AddTagsToCertificate",
    "acm:DeleteCertificate",
)
_RIGHTS: Final[dict[str, tuple[str, ...]]] = {
    "elbv2": (
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeListenerCertificates",
        "elasticloadbalancing:ModifyListener",
        "elasticloadbalancing:AddListenerCertificates",
        "elasticloadbalancing:RemoveListenerCertificates",
    ),
    "elb": ("elasticloadbalancing:SetLoadBalancerListenerSSLCertificate",),
    "cloudfront": ("cloudfront:GetDistribution", "cloudfront:GetDistributionConfig", "cloudfront:UpdateDistribution"),
}
# Where client certificates are checked. The S3 rights are asked for the objects alone, for nobody grants them on all.
_TRUST_STORE_RIGHTS: Final = (
    "elasticloadbalancing:CreateTrustStore",
    "elasticloadbalancing:AddTags",
    "elasticloadbalancing:DescribeTags",
    "elasticloadbalancing:AddTrustStoreRevocations",
    "elasticloadbalancing:DescribeTrustStoreRevocations",
    "elasticloadbalancing:DescribeTrustStoreAssociations",
    "elasticloadbalancing:DeleteTrustStore",
)
_TRUST_STORE_READ: Final[tuple[str, dict[str, Any]]] = ("DescribeTrustStores", {"PageSize": 1})
_OBJECT_RIGHTS: Final = ("s3:PutObject", "s3:GetObject", "s3:DeleteObject")
_ASSUMED: Final = re.compile(r"arn:([a-z-]+):sts::(\d{12}):assumed-role/([^/]+)/")
_POLICY: Final = "docs/targets/aws.md has the policy"


async def check_rights(
    settings: AWSTargetSettings, connection: Connection, *, find_store_regions: Callable[[], Awaitable[Sequence[str]]]
) -> list[Finding]:
    """Return what was found: who we are, each read by region, each right that only the simulator can tell of."""
    try:
        identity = await connection.identity()
    except Outside as error:
        return [Finding("reach", Grade.FAILED, error.message)]
    findings = [Finding("reach", Grade.OK, f"AWS knows us as {identity['Arn']}")]
    for region in await connection.regions():
        services = [service for service in settings.services if service != "cloudfront"]
        findings += [await _try_read(connection, service, region) for service in services]
        if settings.trust_store_bucket:
            findings.append(await _try_read(connection, "elbv2", region, _TRUST_STORE_READ, what="read trust stores"))
    for region in await find_store_regions():
        findings += [await _try_read(connection, service, region) for service in ("acm", "resourcegroupstaggingapi")]
    if "cloudfront" in settings.services:
        findings.append(await _try_read(connection, "cloudfront", CLOUDFRONT_REGION))
    return [*findings, *await _simulate(settings, connection, str(identity["Arn"]))]


async def _try_read(
    connection: Connection, service: str, region: str, read: tuple[str, dict[str, Any]] | None = None, *, what: str = ""
) -> Finding:
    operation, parameters = read or _READS[service]
    what = f"{what or f'read {service}'} in {region}"
    try:
        await connection.call(service, region, operation, parameters, subject=region)
    except CredentialsRefused as error:
        return Finding(what, Grade.FAILED, f"{error.message} {_POLICY}.")
    except Outside as error:
        return Finding(what, Grade.FAILED, error.message)
    return Finding(what, Grade.OK, f"{operation} is answered")


async def _simulate(settings: AWSTargetSettings, connection: Connection, arn: str) -> list[Finding]:
    """Return one finding per right, or one warning if IAM can't be asked.

    The simulator is asked without resources: rights that a policy grants for some resources only look denied.
    """
    rights = [*_ACM_RIGHTS, *(right for service in settings.services for right in _RIGHTS[service])]
    asked: list[tuple[Sequence[str], Sequence[str]]] = [(rights, ())]  # rights, on which resources
    assumed = _ASSUMED.match(arn)
    source = f"arn:{assumed[1]}:iam::{assumed[2]}:role/{assumed[3]}" if assumed else arn
    if settings.trust_store_bucket:
        rights += _TRUST_STORE_RIGHTS
        partition = arn.split(":")[1]
        objects = [
            f"arn:{partition}:s3:::{place.bucket}/{place.folder}ca.pem"
            for place in (find_place(settings, region, NAME_PREFIX) for region in await connection.regions())
        ]
        asked.append((_OBJECT_RIGHTS, objects))
    decisions: dict[str, str] = {}
    try:
        for names, resources in asked:
            request = {"PolicySourceArn": source, "ActionNames": names}
            request |= {"ResourceArns": resources} if resources else {}
            answer = await connection.call("iam", CLOUDFRONT_REGION, "SimulatePrincipalPolicy", request, subject=source)
            decisions |= _read_decisions(answer["EvaluationResults"])
    except (CredentialsRefused, TargetRefused, TargetGone) as error:
        names = ", ".join(right for part, _ in asked for right in part)
        text = f"not tried, as that would change something: {names}. IAM's simulator can't tell either"
        return [Finding("write", Grade.WARNING, f"{text} ({error.message.rstrip('.')}). {_POLICY}.")]
    except Outside as error:
        return [Finding("write", Grade.FAILED, error.message)]
    return [_judge(right, decisions.get(right, "no answer")) for part, _ in asked for right in part]


def _read_decisions(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the decision by right; what is refused on one of several resources is refused."""
    found: dict[str, str] = {}
    for item in results:
        decision = str(item["EvalDecision"])
        for part in item.get("ResourceSpecificResults", ()):
            if part["EvalResourceDecision"] != "allowed":
                decision = str(part["EvalResourceDecision"])
        if found.get(item["EvalActionName"], "allowed") == "allowed":
            found[item["EvalActionName"]] = decision
    return found


def _judge(right: str, decision: str) -> Finding:
    if decision == "allowed":
        return Finding(right, Grade.OK, "allowed, says IAM's simulator")
    if decision == "implicitDeny":
        text = f"no policy allows it for all resources, says IAM's simulator; {_POLICY}"
        return Finding(right, Grade.FAILED, f"{text}. If one allows it for some resources, this may be wrong.")
    return Finding(right, Grade.FAILED, f"denied ({decision}), says IAM's simulator; {_POLICY}.")
