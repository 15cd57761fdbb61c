"""AWS: certificates in ACM, served by ALB, NLB, Classic ELB and CloudFront."""

from certorbit.ports.target import Target
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.account import AWSTarget
from certorbit.targets.registry import TargetParts


def make(settings: AWSTargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table with `type = "aws"`. Asks nobody; credentials are looked for at the first call."""
    return AWSTarget(settings, quota=parts.quota, clock=parts.clock, chance=parts.chance)
