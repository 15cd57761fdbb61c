"""What AWS and botocore raise, as our errors. Each service has words of its own for the same thing."""

import re
from typing import Final

from botocore import exceptions as boto

from certorbit.errors import (
    CredentialsRefused,
    TargetFull,
    TargetGone,
    TargetRefused,
    Throttled,
    Unreachable,
)
from certorbit.net.tries import Passing

_IAM_PREFIXES: Final = {
    "acm": "acm",
    "s3": "s3",
    "elbv2": "elasticloadbalancing",
    "elb": "elasticloadbalancing",
    "cloudfront": "cloudfront",
    "resourcegroupstaggingapi": "tag",
    "iam": "iam",
    "sts": "sts",
}
_CREDENTIAL_CODES: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "NotAuthorized",
        "AuthFailure",
        "OptInRequired",
        "UnrecognizedClient",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
    }
)
# botocore has the same list for its own tries (botocore.retries.standard), which are off here.
_THROTTLE_CODES: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottledException",
        "RequestThrottled",
        "TooManyRequestsException",
        "TooManyRequests",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "SlowDown",
    }
)
# What isn't there is neither a listener nor a copy, but something that we make or that the settings name.
_NOT_GONE: Final = {
    "TrustStoreNotFound": "",
    "CaCertificatesBundleNotFound": "",
    "RevocationContentNotFound": "",
    "NoSuchBucket": "Check trust_store_bucket.",
}
# A run of base64 that can't be a part of an ARN or a name: whatever it is, it has no place in a message.
_LONG_BASE64: Final = re.compile(r"[A-Za-z0-9+/=]{40,}")
_LONGEST_MESSAGE: Final = 300


def shown(text: str) -> str:
    """Return somebody else's sentence, short, on one line, without anything that may be key material."""
    line = _LONG_BASE64.sub("…", " ".join(text.split()))
    return line[:_LONGEST_MESSAGE].rstrip(". ")


def find_code(error: BaseException) -> str:
    """Return the service's own code of an error or of its cause; "" if there is none."""
    cause = error if isinstance(error, boto.ClientError) else error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, boto.ClientError) else ""


def name_action(service: str, operation: str) -> str:
    """Return the right that the operation needs, as IAM policies spell it."""
    # AssumeRole happens inside of other services' calls.
    prefix = "sts" if operation == "AssumeRole" else _IAM_PREFIXES[service]
    return f"{prefix}:{operation}"


def translate(error: Exception, *, target: str, service: str, operation: str, subject: str) -> Exception:
    """Return what to raise: an Outside, or Passing around one where another try may help at once.

    Args:
        operation: the one that we called; the error may name another one (AssumeRole).
        subject: the listener, copy or region that it was about.
    """
    if isinstance(error, boto.ClientError):
        return _translate_answer(error, target=target, service=service, subject=subject)
    reason = f"{target}: {name_action(service, operation)} for {subject}: {shown(str(error))}"
    if isinstance(error, _NO_CREDENTIALS):
        return CredentialsRefused(
            f"{reason}. Give the service credentials: in the settings, the environment, a profile or a role.",
            subject=target,
        )
    if isinstance(error, boto.NoRegionError):
        return TargetRefused(f"{target}: no region is known; set `regions`.", subject=target)
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        phase = _find_phase(error)
        unreachable = Unreachable(f"{reason} ({phase}).", subject=subject, phase=phase)
        return unreachable if phase == "TLS" else Passing(unreachable)
    if isinstance(error, boto.ParamValidationError):
        # Its text repeats the parameters' values, a private key among them.
        return TargetRefused(
            f"{target}: {name_action(service, operation)} for {subject}: the SDK takes no such parameters.",
            subject=subject,
        )
    return TargetRefused(f"{reason}.", subject=subject)


def _translate_answer(error: boto.ClientError, *, target: str, service: str, subject: str) -> Exception:
    code = find_code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    action = name_action(service, error.operation_name)
    words = shown(str(error.response.get("Error", {}).get("Message", "")))
    reason = f"{target}: {action} for {subject}: {words or 'no reason given'} ({code})."
    if code in _CREDENTIAL_CODES:
        return CredentialsRefused(f"{reason} Check the credentials and that they may call {action}.", subject=target)
    if code in _THROTTLE_CODES:
        return Passing(Throttled(reason, subject=subject))
    if status >= 500:
        return Passing(Unreachable(reason, subject=subject, phase="read"))
    if code not in _NOT_GONE and ("NotFound" in code or code.startswith("NoSuch")):
        return TargetGone(reason, subject=subject)
    if code.startswith("TooMany") or "LimitExceeded" in code or "QuotaExceeded" in code:
        return TargetFull(f"{reason} A quota of the AWS account is reached.", subject=subject)
    return TargetRefused(f"{reason} {_NOT_GONE.get(code, '')}".rstrip(), subject=subject)


def _find_phase(error: Exception) -> str:
    """Return how far the request came; `read` means that AWS may have received it."""
    if isinstance(error, boto.SSLError):
        return "TLS"
    if isinstance(error, boto.EndpointConnectionError):
        return "resolve" if "resolve" in str(error.kwargs.get("error", "")).lower() else "connect"
    return "connect" if isinstance(error, boto.ConnectTimeoutError | boto.ProxyConnectionError) else "read"


_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.UnauthorizedSSOTokenError,
    boto.SSOTokenLoadError,
    boto.RefreshWithMFAUnsupportedError,
)
