"""AWS through the real service, against moto's server: limits, refused rights, and the way it goes well."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from certorbit.target_settings import AWSTargetSettings
from e2e.balancer_client import is_link_of
from e2e.balancer_scene import BalancerScene, balancer_scene
from e2e.edge import Edge
from e2e.service import wait_until
from targets.aws_bench import AWS, REGION, open_aws
from targets.aws_server import MOST_SNI, Fault
from targets.haproxy_process import ADDRESS


@dataclass(frozen=True)
class Cloud:
    """A service with moto and HAProxy. `full` has all the certificates that an ALB takes, `front` its default alone."""

    scene: BalancerScene
    aws: AWS
    foreign: list[str]

    def sni_list(self, name: str) -> list[str]:
        """Return the ARNs on the balancer's listener beside its default, by moto's word."""
        item = next(one for one in self.scene.api.list() if one["name"] == name)
        held = self.aws.client("elbv2").describe_listener_certificates(ListenerArn=item["listener_name"])
        return [one["CertificateArn"] for one in held["Certificates"] if not one["IsDefault"]]

    def item(self, name: str) -> dict[str, object]:
        return next(one for one in self.scene.api.list() if one["name"] == name)


@contextmanager
def running_aws() -> Iterator[AWS]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        try:
            yield runner.run(open_aws(stack))
        finally:
            runner.run(stack.aclose())


def settings_of(aws: AWS, edge: Edge) -> AWSTargetSettings:
    """moto has no listeners that could be connected to: HAProxy stands where the proof connects to."""
    place = f"{ADDRESS}:{edge.port('https-1')}"
    return AWSTargetSettings.model_validate(
        {
            "type": "aws",
            "name": "cloud",
            "regions": [REGION],
            "services": ["elbv2"],
            "access_key_id": "id",
            "secret_access_key": "key",
            "endpoint_url": aws.server.url,
            "grace_seconds": 1,
            "probe_addresses": {name: [place] for name in ("front", "full")},
        }
    )


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder: Path = tmp_path_factory.mktemp("cloud")
    with running_aws() as aws:
        aws.make_balancer("front")
        full = aws.make_balancer("full")
        foreign = [aws.import_foreign(number=number) for number in range(1, MOST_SNI + 1)]
        for arn in foreign:
            aws.client("elbv2").add_listener_certificates(
                ListenerArn=full.listener, Certificates=[{"CertificateArn": arn}]
            )
        with balancer_scene(folder, listeners=1, more_targets=lambda edge: [settings_of(aws, edge)]) as scene:
            wait_until(lambda: len(scene.api.list()) == 3, what="AWS's listeners are listed")
            yield Cloud(scene, aws, foreign)


def test_the_26th_certificate_is_refused_before_anything_is_touched(cloud: Cloud) -> None:
    scene = cloud.scene
    scene.generate("one-more")
    version = scene.client.get("/api/v4.3/conf/configs/prod").json["version"]
    calls = len(cloud.aws.server.calls)
    answer = scene.api.attach(cloud.item("full"), "one-more")
    assert (answer.status, answer.json["code"]) == (400, 400)
    assert "takes 25 certificates beside its default and has 25" in answer.json["message"]
    assert "Nothing was changed" in answer.json["message"]
    changes = [call for call in cloud.aws.server.calls[calls:] if ":Describe" not in call and ":List" not in call]
    assert changes == [], "something was touched"
    assert sorted(cloud.sni_list("full")) == sorted(cloud.foreign)
    assert scene.client.get("/api/v4.3/conf/configs/prod").json["version"] == version
    assert scene.api.deployments("one-more") == {"total": 0, "items": [], "attachments": []}
    assert scene.client.delete("one-more").status == 200


@pytest.mark.parametrize(
    ("action", "code"),
    [("acm:ImportCertificate", "AccessDeniedException"), ("elbv2:DescribeListenerCertificates", "AccessDenied")],
)
def test_refused_credentials_are_told_and_nothing_is_attached(cloud: Cloud, action: str, code: str) -> None:
    scene, item, before = cloud.scene, cloud.item("front"), cloud.sni_list("front")
    entry_id = f"denied-{action[:3]}"
    scene.generate(entry_id)
    fault = Fault(action, code, status=403, times=1000, message=f"no right to {action}")
    cloud.aws.server.faults.append(fault)
    try:
        answer = scene.api.attach(item, entry_id)
    finally:
        fault.times = 0
    assert (answer.status, answer.json["code"]) == (400, 400), answer.body
    assert action.partition(":")[2] in answer.json["message"]
    assert scene.api.attachments(entry_id) == {}
    assert cloud.sni_list("front") == before
    assert scene.client.delete(entry_id).status == 200


def test_a_certificate_is_imported_attached_proven_and_taken_off_again(cloud: Cloud) -> None:
    scene = cloud.scene
    leaf = scene.generate("cloudy")
    scene.attach("cloudy", "https-1")  # so that the probe address serves what the ALB would
    item = cloud.item("front")
    answer = scene.api.attach(item, "cloudy")
    assert (answer.status, answer.body) == (200, b"")
    (arn,) = cloud.sni_list("front")
    assert cloud.aws.fingerprint(arn) == leaf
    item = cloud.item("front")
    (link,) = [one for one in item["certificates"] if is_link_of(one, "cloudy")]
    assert link == f"{arn}/cloudy"
    assert {"link": link, "provider": "aws", "region": REGION} in scene.client.certificate("cloudy").json["links"]
    answer = scene.api.detach(item, link)
    assert (answer.status, answer.body) == (200, b"")
    assert cloud.sni_list("front") == []
    summaries = cloud.aws.client("acm").list_certificates()["CertificateSummaryList"]
    assert arn not in [one["CertificateArn"] for one in summaries], "the copy stays in ACM"
