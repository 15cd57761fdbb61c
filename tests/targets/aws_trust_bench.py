"""AWS targets whose ALBs check client certificates: aws_bench with the stand-in for trust stores and a bucket."""

import itertools
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

from certorbit.model.balancer import ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.ports.target import VerifiesListenerClients
from targets.aws_bench import AWS, REGION, open_aws
from targets.aws_trust_stores import Store, TrustStoreRules
from targets.client_certificates import OURS, THEIRS, ClientCA, make_policy
from targets.listener_client_bench import ListenerVerifyingAdapter

_NUMBERS = itertools.count(1)  # what earlier tests made stays in moto


@dataclass
class TrustScene:
    """bucket: what targets have in their settings."""

    aws: AWS
    rules: TrustStoreRules
    bucket: str

    def make_balancer(self, *, region: str = REGION, kind: str = "application") -> ListenerKey:
        return self.aws.make_balancer(f"front-{next(_NUMBERS)}", region=region, kind=kind)

    def make_bucket(self, name: str, region: str = REGION) -> str:
        """Make a bucket and return its name, which ends with a number."""
        numbered = f"{name}-{next(_NUMBERS)}"
        self.aws.client("s3", region).create_bucket(
            Bucket=numbered, CreateBucketConfiguration={"LocationConstraint": region}
        )
        return numbered

    def target(self, **changes: Any) -> ListenerVerifyingAdapter:
        """Return a target of its own, as another process has one."""
        target = self.aws.target(**{"trust_store_bucket": self.bucket, **changes})
        assert isinstance(target, VerifiesListenerClients)
        return target  # type: ignore[return-value]  # mypy knows no intersections

    def mutual(self, key: ListenerKey) -> dict[str, Any]:
        """Return the listener's mutual authentication as AWS shows it."""
        elbv2 = self.aws.client("elbv2", key.region)
        (shown,) = elbv2.describe_listeners(ListenerArns=[key.listener])["Listeners"]
        found: dict[str, Any] = shown["MutualAuthentication"]
        return found

    def store_of(self, key: ListenerKey) -> Store:
        """Return the trust store that the listener checks by."""
        return self.rules.stores[key.region, self.mutual(key)["TrustStoreArn"]]

    def set_mutual(self, key: ListenerKey, **mutual: Any) -> None:
        """Do as somebody else would."""
        self.aws.client("elbv2", key.region).modify_listener(ListenerArn=key.listener, MutualAuthentication=mutual)

    def make_foreign_store(self, name: str = "theirs", region: str = REGION, **tags: str) -> str:
        """Make a trust store as somebody else would, and return its ARN. It is active."""
        self.aws.client("s3").put_object(Bucket=self.bucket, Key="theirs.pem", Body=make_policy(THEIRS).ca_pem.encode())
        made = self.aws.client("elbv2", region).create_trust_store(
            Name=name,
            CaCertificatesBundleS3Bucket=self.bucket,
            CaCertificatesBundleS3Key="theirs.pem",
            Tags=[{"Key": key.replace("_", ":"), "Value": value} for key, value in {"owner": "them", **tags}.items()],
        )
        arn = str(made["TrustStores"][0]["TrustStoreArn"])
        self.rules.stores[region, arn].looks = 0
        return arn

    def objects(self, bucket: str = "") -> list[str]:
        listed = self.aws.client("s3").list_objects_v2(Bucket=bucket or self.bucket)
        return [one["Key"] for one in listed.get("Contents", ())]


async def open_trust(stack: AsyncExitStack) -> TrustScene:
    aws = await open_aws(stack, is_empty=False)
    scene = TrustScene(aws, TrustStoreRules(aws.server), bucket="")
    scene.bucket = scene.make_bucket("trust")
    return scene


@cache  # a list is another one each time, by its signature
def make_listed_policy(*revoked: str, days: float = 7) -> ClientPolicy:
    """Return a policy with two CAs and a list of each; the first one's list is empty or has as many entries."""
    serials = [OURS.certificate for _ in revoked]
    lists = [OURS.list_revoked(*serials, days=days), THEIRS.list_revoked(THEIRS.certificate, days=400)]
    return make_policy(OURS, THEIRS, crls=lists)


def make_big_policy(count: int) -> ClientPolicy:
    return make_policy(*(ClientCA(10 + number) for number in range(count)))
