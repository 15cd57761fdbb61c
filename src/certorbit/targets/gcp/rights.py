"""`certorbit targets check` for Google Cloud: can the listeners be read, and which rights are missing."""

from collections.abc import Sequence
from typing import Final

from certorbit.errors import CertorbitError, CredentialsRefused
from certorbit.ports.target import Finding, Grade, Target
from certorbit.targets.gcp.problems import Conflict
from certorbit.targets.gcp.rest import RestClient, quote_part

CLASSIC_GLOBAL: Final = (
    "compute.globalForwardingRules.list",
    "compute.globalOperations.get",
    "compute.sslCertificates.create",
    "compute.sslCertificates.delete",
    "compute.sslCertificates.get",
    "compute.sslCertificates.list",
    "compute.targetHttpsProxies.get",
    "compute.targetHttpsProxies.list",
    "compute.targetHttpsProxies.update",
    "compute.targetSslProxies.get",
    "compute.targetSslProxies.list",
    "compute.targetSslProxies.setSslCertificates",
)
CLASSIC_REGIONAL: Final = (
    "compute.forwardingRules.list",
    "compute.regionOperations.get",
    "compute.regionSslCertificates.create",
    "compute.regionSslCertificates.delete",
    "compute.regionSslCertificates.get",
    "compute.regionSslCertificates.list",
    "compute.regionTargetHttpsProxies.get",
    "compute.regionTargetHttpsProxies.list",
    "compute.regionTargetHttpsProxies.update",
)
MANAGER: Final = (
    "certificatemanager.certmapentries.create",
    "certificatemanager.certmapentries.delete",
    "certificatemanager.certmapentries.get",
    "certificatemanager.certmapentries.list",
    "certificatemanager.certmapentries.update",
    "certificatemanager.certmaps.get",
    "certificatemanager.certmaps.list",
    "certificatemanager.certs.create",
    "certificatemanager.certs.delete",
    "certificatemanager.certs.get",
    "certificatemanager.certs.list",
    "certificatemanager.certs.update",
    "certificatemanager.certs.use",
    "certificatemanager.operations.get",
)


async def check_target(target: Target, client: RestClient, *, project: str, rights: Sequence[str]) -> Sequence[Finding]:
    """Return the findings: `reach`, `read`, then one for each missing right, or `write`."""
    try:
        listeners = await target.discover()
    except CertorbitError as error:
        what = "read" if isinstance(error, CredentialsRefused) else "reach"
        findings = [Finding(what, Grade.FAILED, error.message)]
    else:
        grade = Grade.OK if listeners else Grade.WARNING
        findings = [
            Finding("reach", Grade.OK, f"Google answers for project {project}."),
            Finding("read", grade, f"{len(listeners)} listener(s) found."),
        ]
    return [*findings, *await _check_rights(client, project=project, rights=rights)]


async def _check_rights(client: RestClient, *, project: str, rights: Sequence[str]) -> list[Finding]:
    path = f"projects/{quote_part(project)}:testIamPermissions"
    try:
        answer = await client.call("POST", path, api="cloudresourcemanager", body={"permissions": list(rights)})
    except (CertorbitError, Conflict) as error:
        message = error.message if isinstance(error, CertorbitError) else error.error.message
        return [Finding("write", Grade.WARNING, f"The rights can't be asked for (Resource Manager API): {message}")]
    held = answer.get("permissions")
    missing = [right for right in rights if not isinstance(held, list) or right not in held]
    if not missing:
        return [Finding("write", Grade.OK, f"All {len(rights)} rights are granted.")]
    return [
        Finding(right, Grade.FAILED, f"Grant {right} in project {project} to the target's account.")
        for right in missing
    ]
