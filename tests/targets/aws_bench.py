"""AWS targets against moto's server (aws_server.py), looked at by a boto3 client of the tests' own."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import DNSName, SubjectAlternativeName, load_pem_x509_certificate

from certorbit.errors import TargetFull
from certorbit.model.balancer import ListenerKey
from certorbit.ports.target import Target
from certorbit.target_settings import AWSTargetSettings
from certorbit.targets.aws import make
from certorbit.targets.registry import TargetParts
from fakes.clock import FakeChance, FakeClock
from make import make_chain
from targets.aws_server import AWSServer
from targets.target_bench import TargetBench

REGION = "eu-west-1"
ACCOUNT = "123456789012"
_KEYS = {"aws_access_key_id": "id", "aws_secret_access_key": "key"}
_ORIGIN = {
    "Id": "origin",
    "DomainName": "origin.example.com",
    "CustomOriginConfig": {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"},
}


class Ledger:
    """Counts in memory, as `ports.target.QuotaLedger` wants it."""

    def __init__(self) -> None:
        self.spent: list[tuple[str, str]] = []

    async def spend(self, account: str, kind: str, *, limit: int, days: int) -> None:
        if self.spent.count((account, kind)) >= limit:
            raise TargetFull(f"{account}: {limit} uses of {kind} in {days} days are made.", subject=account)
        self.spent.append((account, kind))


class NoShelf:
    """AWS serves certificates itself; touching the shelf would be a bug."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@dataclass
class AWS:
    """The server, our clients for it, and the target's parts."""

    server: AWSServer
    ledger: Ledger
    clock: FakeClock
    stack: AsyncExitStack
    clients: dict[tuple[str, str], Any]

    def client(self, service: str, region: str = REGION) -> Any:
        if (service, region) not in self.clients:
            client = boto3.client(service, region_name=region, endpoint_url=self.server.url, **_KEYS)
            self.stack.callback(client.close)
            self.clients[service, region] = client
        return self.clients[service, region]

    def target(self, **changes: Any) -> Target:
        table = {
            "name": "cloud",
            "type": "aws",
            "regions": [REGION],
            "access_key_id": "id",
            "secret_access_key": "key",
            "endpoint_url": self.server.url,
            **changes,
        }
        parts = TargetParts(clock=self.clock, chance=FakeChance(), quota=self.ledger, shelf=NoShelf())
        target = make(AWSTargetSettings.model_validate(table), parts)
        self.stack.push_async_callback(target.close)
        return target

    def import_foreign(self, region: str = REGION, number: int = 1) -> str:
        """Import a certificate of somebody else's and return its ARN."""
        chain = make_chain(names=[f"other{number}.example.org"], key_index=number, now=datetime.now(UTC))
        answer = self.client("acm", region).import_certificate(
            Certificate=chain.leaf_pem.encode(),
            CertificateChain=chain.intermediates_pem.encode(),
            PrivateKey=chain.key_pem.encode(),
        )
        return str(answer["CertificateArn"])

    def make_balancer(
        self, name: str, *, region: str = REGION, kind: str = "application", port: int = 443
    ) -> ListenerKey:
        """Make an ALB or NLB with one TLS listener that has a foreign default, and return the listener's key."""
        elbv2 = self.client("elbv2", region)
        subnets = self.client("ec2", region).describe_subnets()["Subnets"][:2]
        made = elbv2.create_load_balancer(Name=name, Subnets=[one["SubnetId"] for one in subnets], Type=kind)
        protocol = "HTTPS" if kind == "application" else "TLS"
        group = elbv2.create_target_group(
            Name=f"{name}-group"[:32], Protocol="HTTP", Port=80, VpcId=subnets[0]["VpcId"]
        )
        listener = elbv2.create_listener(
            LoadBalancerArn=made["LoadBalancers"][0]["LoadBalancerArn"],
            Protocol=protocol,
            Port=port,
            Certificates=[{"CertificateArn": self.import_foreign(region)}],
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group["TargetGroups"][0]["TargetGroupArn"]}],
        )
        return ListenerKey("cloud", region, name, listener["Listeners"][0]["ListenerArn"], port)

    def make_classic(self, name: str) -> ListenerKey:
        plain = {"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}
        tls = {
            "Protocol": "HTTPS",
            "LoadBalancerPort": 443,
            "InstancePort": 80,
            "SSLCertificateId": self.import_foreign(),
        }
        self.client("elb").create_load_balancer(
            LoadBalancerName=name, Listeners=[plain, tls], AvailabilityZones=[f"{REGION}a"]
        )
        return ListenerKey("cloud", REGION, name, "443", 443)

    def make_distribution(self, reference: str, *, has_certificate: bool = True) -> ListenerKey:
        viewer: dict[str, Any] = {"CloudFrontDefaultCertificate": True}
        if has_certificate:
            arn = self.import_foreign("us-east-1")
            viewer = {"ACMCertificateArn": arn, "SSLSupportMethod": "vip", "MinimumProtocolVersion": "TLSv1.2_2019"}
        made = self.client("cloudfront").create_distribution(
            DistributionConfig={
                "CallerReference": reference,
                "Comment": f"made for {reference}",
                "Enabled": True,
                "Origins": {"Quantity": 1, "Items": [_ORIGIN]},
                "DefaultCacheBehavior": {
                    "TargetOriginId": "origin",
                    "ViewerProtocolPolicy": "redirect-to-https",
                    "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
                    "MinTTL": 0,
                },
                "ViewerCertificate": viewer,
            }
        )
        name = made["Distribution"]["Id"]
        return ListenerKey("cloud", "us-east-1", name, name, 443)

    def hold_distributions(self, *, looks: int) -> None:
        """Let distributions stay `InProgress` for so many looks after a change."""
        progress = {"progression": "manual", "times": looks}
        self.tell_moto(
            "state-manager/set-transition", {"model_name": "cloudfront::distribution", "transition": progress}
        )

    def tell_moto(self, path: str, body: dict[str, Any] | None = None) -> None:
        content = json.dumps(body or {}).encode()
        request = urllib.request.Request(f"{self.server.url}/moto-api/{path}", data=content, method="POST")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=30).close()

    def leaf(self, arn: str) -> Any:
        region = arn.split(":")[3]
        return load_pem_x509_certificate(
            self.client("acm", region).get_certificate(CertificateArn=arn)["Certificate"].encode()
        )

    def fingerprint(self, arn: str) -> str:
        return sha256(self.leaf(arn).public_bytes(Encoding.DER)).hexdigest() if arn else ""

    def served_by_alb(self, key: ListenerKey, name: str) -> str:
        """As an ALB chooses: the SNI list's certificate for the name, else the default one."""
        held = self.client("elbv2", key.region).describe_listener_certificates(ListenerArn=key.listener)["Certificates"]
        for one in held:
            if name and name in self.leaf(one["CertificateArn"]).extensions.get_extension_for_class(
                SubjectAlternativeName
            ).value.get_values_for_type(DNSName):
                return self.fingerprint(one["CertificateArn"])
        return self.fingerprint(next(one["CertificateArn"] for one in held if one["IsDefault"]))

    def served_by_classic(self, key: ListenerKey, _name: str) -> str:
        (balancer,) = self.client("elb").describe_load_balancers(LoadBalancerNames=[key.load_balancer])[
            "LoadBalancerDescriptions"
        ]
        listeners = [described["Listener"] for described in balancer["ListenerDescriptions"]]
        return self.fingerprint(
            next(one["SSLCertificateId"] for one in listeners if one["LoadBalancerPort"] == key.port)
        )

    def served_by_cloudfront(self, key: ListenerKey, _name: str) -> str:
        config = self.client("cloudfront").get_distribution_config(Id=key.load_balancer)["DistributionConfig"]
        return self.fingerprint(config["ViewerCertificate"].get("ACMCertificateArn", ""))


async def open_aws(stack: AsyncExitStack, *, is_empty: bool = True) -> AWS:
    """is_empty: whether nothing of earlier tests is there. Building an empty EC2 takes moto half a second."""
    server = AWSServer()
    server.start()
    stack.push_async_callback(asyncio.to_thread, server.stop)
    aws = AWS(server, Ledger(), FakeClock(datetime.now(UTC), auto_advance=True), stack, {})
    if not is_empty:
        return aws
    # moto's state belongs to the process, not to the server.
    await asyncio.to_thread(aws.tell_moto, "reset")
    unset = {"model_name": "cloudfront::distribution"}
    await asyncio.to_thread(aws.tell_moto, "state-manager/unset-transition", unset)
    return aws


async def _open(
    stack: AsyncExitStack,
    create: Callable[[AWS, str], ListenerKey],
    served: Callable[[AWS, ListenerKey, str], str],
) -> TargetBench:
    aws = await open_aws(stack)
    keys = [await asyncio.to_thread(create, aws, name) for name in ("front", "back")]

    async def look(key: ListenerKey, name: str) -> str:
        return await asyncio.to_thread(served, aws, key, name)

    return TargetBench(target=aws.target(), listener=keys[0], other=keys[1], served=look)


async def open_alb(_folder: Path, stack: AsyncExitStack) -> TargetBench:
    return await _open(stack, lambda aws, name: aws.make_balancer(name), AWS.served_by_alb)


async def open_classic(_folder: Path, stack: AsyncExitStack) -> TargetBench:
    return replace(await _open(stack, AWS.make_classic, AWS.served_by_classic), has_sni=False)


async def open_cloudfront(_folder: Path, stack: AsyncExitStack) -> TargetBench:
    return replace(await _open(stack, AWS.make_distribution, AWS.served_by_cloudfront), has_sni=False)
