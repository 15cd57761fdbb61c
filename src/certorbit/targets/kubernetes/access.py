"""`certorbit targets check` for Kubernetes: what the target's account may do with Secrets."""

from collections.abc import Sequence
from typing import Final

from certorbit.errors import CertorbitError, CredentialsRefused
from certorbit.ports.target import Finding, Grade, Target
from certorbit.targets.kubernetes.rest import Conflict, KubernetesClient

VERBS: Final = ("get", "list", "create", "patch", "delete")
_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def check_access(target: Target, client: KubernetesClient, *, namespaces: Sequence[str]) -> Sequence[Finding]:
    """Return the findings: `reach`, `read`, then one for each missing right, or `write`."""
    try:
        listeners = await target.discover()
    except CertorbitError as error:
        what = "read" if isinstance(error, CredentialsRefused) else "reach"
        findings = [Finding(what, Grade.FAILED, error.message)]
    else:
        empty = [str(listener.key) for listener in listeners if not listener.default]
        findings = [
            Finding("reach", Grade.OK, "The API server answers."),
            Finding("read", Grade.OK, f"{len(listeners)} listener(s), {len(empty)} without a certificate."),
        ]
    try:
        missing = [
            (verb, namespace)
            for namespace in namespaces
            for verb in VERBS
            if not await _is_allowed(client, verb, namespace=namespace)
        ]
    except (CertorbitError, Conflict) as error:
        message = error.message if isinstance(error, CertorbitError) else error.error.message
        return [*findings, Finding("write", Grade.FAILED, f"The rights can't be asked for: {message}")]
    if not missing:
        return [*findings, Finding("write", Grade.OK, f"All rights on Secrets in {', '.join(namespaces) or 'none'}.")]
    return [
        *findings,
        *(
            Finding(
                f"secrets:{verb}",
                Grade.FAILED,
                f"Let the target's account {verb} secrets in namespace {namespace} (a Role and a RoleBinding).",
            )
            for verb, namespace in missing
        ),
    ]


async def _is_allowed(client: KubernetesClient, verb: str, *, namespace: str) -> bool:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": namespace, "verb": verb, "resource": "secrets"}},
    }
    answer = await client.call("POST", _PATH, body=body)
    status = answer.get("status")
    return isinstance(status, dict) and status.get("allowed") is True
