"""Settings of AWS targets: one account, some of its regions."""

import re
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from certorbit.target_settings.table import ProbeAddress, TargetTable

AWSService = Literal["elbv2", "elb", "cloudfront"]
RegionName = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z0-9]+)+$")]
TagKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_ .:/=+@-]+$", max_length=128)]
TagValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9_ .:/=+@-]*$", max_length=256)]
MOST_TAGS = 40  # ACM: 50 for each certificate, some of them are ours
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LONGEST_REGION = "ap-southeast-1"


class AWSTargetSettings(TargetTable):
    """AWS: ACM with the listeners of ALB, NLB, Classic ELB and CloudFront. Needs `pip install certorbit[aws]`."""

    type: Literal["aws"] = Field(description="The kind of target")
    regions: tuple[RegionName, ...] = Field((), description="Regions of load balancers; none: boto3's default region")
    services: tuple[AWSService, ...] = Field(
        ("elbv2", "elb", "cloudfront"), min_length=1, description="Which kinds: elbv2 (ALB and NLB), elb, cloudfront"
    )
    access_key_id: str = Field("", description="Access key; empty: boto3's own search (environment, profile, role)")
    secret_access_key: SecretStr = Field(SecretStr(""), description="Secret of the access key")
    role_arn: str = Field(
        "", pattern=r"^(arn:[\w-]+:iam::\d{12}:role/.+)?$", description="Role to assume, for example of another account"
    )
    external_id: SecretStr = Field(SecretStr(""), description="External id that the role asks for")
    endpoint_url: str = Field("", pattern=r"^(https?://.+)?$", description="Another endpoint than Amazon's")
    # AWS says nothing of how long an import in place takes to reach a listener: seconds for load balancers, minutes for
    # CloudFront's edges.
    grace_seconds: float = Field(
        300.0,
        ge=0,
        le=3600,
        description="How long a change may take until every address serves it; then the listener gets its old"
        " certificate back",
    )
    max_listener_certificates: int = Field(
        25, ge=0, le=1000, description="Quota of the account: certificates of an ALB or NLB beside the default one"
    )
    imports_per_year: int = Field(5000, ge=1, description="Quota of the account: ACM imports in 365 days, per region")
    tags: dict[TagKey, TagValue] = Field(
        {}, max_length=MOST_TAGS, description="Further tags of imported certificates and trust stores"
    )
    trust_store_bucket: str = Field(
        "",
        description="S3 bucket of the account, for CAs that an ALB checks client certificates by; {region} stands for"
        " the load balancer's region; empty: client certificates can't be checked",
    )
    trust_store_prefix: str = Field(
        "certorbit/",
        pattern=r"^([A-Za-z0-9_.-]+/)*$",
        max_length=64,
        description="Folder in the bucket, with a slash at its end",
    )
    probe_addresses: dict[str, tuple[ProbeAddress, ...]] = Field(
        {}, description="Where the proof connects to, by the load balancer's name; none: its DNS name"
    )

    @model_validator(mode="after")
    def _check(self) -> "AWSTargetSettings":
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError(f"target {self.name!r}: access_key_id and secret_access_key go together")
        if self.external_id.get_secret_value() and not self.role_arn:
            raise ValueError(f"target {self.name!r}: external_id is for role_arn, which is not set")
        bucket = self.trust_store_bucket.replace("{region}", _LONGEST_REGION)
        if bucket and not _BUCKET.fullmatch(bucket):
            raise ValueError(f"target {self.name!r}: trust_store_bucket is not the name of an S3 bucket")
        if bucket and "elbv2" not in self.services:
            raise ValueError(f"target {self.name!r}: trust_store_bucket is for elbv2, which services leaves out")
        if reserved := sorted(key for key in self.tags if key.lower().startswith(("aws:", "certorbit:"))):
            raise ValueError(f"target {self.name!r}: tags: {', '.join(reserved)}: aws: and certorbit: are reserved")
        for setting, values in (("regions", self.regions), ("services", self.services)):
            if len(set(values)) < len(values):
                raise ValueError(f"target {self.name!r}: {setting} names one of them twice")
        return self
