"""AWS says no, or nothing: throttled, credentials refused, down; and what `check` finds."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from pydantic import ValidationError

from certorbit.errors import CredentialsRefused, TargetFull, TargetGone, TargetRefused, Throttled, Unreachable
from certorbit.net.tries import Passing
from certorbit.ports.target import Grade
from certorbit.target_settings import AWSTargetSettings
from certorbit.targets.aws.refusals import translate
from targets.aws_bench import AWS, REGION, open_aws
from targets.aws_server import Fault
from targets.target_bench import make_bundle

BALANCERS = "elbv2:DescribeLoadBalancers"


@pytest.fixture
async def aws() -> AsyncIterator[AWS]:
    async with AsyncExitStack() as stack:
        yield await open_aws(stack)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path) -> pytest.MonkeyPatch:
    """An environment in which boto3's own search finds nothing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("BOTO_CONFIG", str(tmp_path / "none"))
    return monkeypatch


@pytest.mark.parametrize(("code", "status"), [("Throttling", 400), ("InternalFailure", 500)])
async def test_what_passes_within_two_tries_is_not_noticed(aws: AWS, code: str, status: int) -> None:
    key = aws.make_balancer("front")
    aws.server.faults.append(Fault(BALANCERS, code, status=status, times=2))
    assert [listener.key for listener in await aws.target().discover()] == [key]
    assert aws.clock.slept


async def test_what_stays_throttled_is_told(aws: AWS) -> None:
    aws.server.faults.append(Fault(BALANCERS, "Throttling", times=100))
    with pytest.raises(Throttled, match=r"elasticloadbalancing:DescribeLoadBalancers for eu-west-1.*\(Throttling\)"):
        await aws.target(services=["elbv2"]).discover()
    assert aws.server.count(BALANCERS) == 3


async def test_a_throttled_import_is_sent_again_and_counted_once(aws: AWS) -> None:
    aws.server.faults.append(Fault("acm:ImportCertificate", "ThrottlingException", times=2))
    copy = await aws.target().install(make_bundle("www"), scope=REGION, present=None)
    assert aws.fingerprint(copy.handle) == make_bundle("www").facts.fingerprint
    assert len(aws.ledger.spent) == 1


async def test_a_lost_answer_of_a_harmless_call_is_asked_for_again(aws: AWS) -> None:
    key, target = aws.make_balancer("front"), aws.target()
    copy = await target.install(make_bundle("www"), scope=REGION, present=None)
    aws.server.faults.append(Fault("elbv2:AddListenerCertificates"))
    await target.attach(key, copy, instead_of="")
    assert (await target.look(key)).certificates == (copy.handle,)


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"])
async def test_refused_credentials_name_the_right_and_are_not_tried_again(aws: AWS, code: str) -> None:
    key, target = aws.make_balancer("front"), aws.target()
    copy = await target.install(make_bundle("www"), scope=REGION, present=None)
    aws.server.faults.append(Fault("elbv2:AddListenerCertificates", code, status=403, times=100))
    with pytest.raises(CredentialsRefused, match="may call elasticloadbalancing:AddListenerCertificates"):
        await target.attach(key, copy, instead_of="")
    assert aws.server.count("elbv2:AddListenerCertificates") == 1
    assert not (await target.look(key)).holds(copy.handle)


async def test_an_endpoint_that_is_down_is_unreachable_and_costs_no_import(aws: AWS) -> None:
    down = aws.target(endpoint_url="http://127.0.0.1:9")  # discard; nobody listens there
    for call in (down.discover(), down.install(make_bundle("www"), scope=REGION, present=None)):
        with pytest.raises(Unreachable) as raised:
            await call
        assert raised.value.phase == "connect"
    assert aws.ledger.spent == []
    (finding,) = await down.check()
    assert (finding.what, finding.grade) == ("reach", Grade.FAILED)


@pytest.mark.usefixtures("bare")
async def test_no_credentials_at_all_are_told(aws: AWS) -> None:
    with pytest.raises(CredentialsRefused, match="Give the service credentials"):
        await aws.target(access_key_id="", secret_access_key="").discover()
    with pytest.raises(CredentialsRefused, match="Give the service credentials"):
        await aws.target(access_key_id="", secret_access_key="", role_arn="arn:aws:iam::111122223333:role/x").discover()


async def test_the_region_is_boto3s_own_if_the_settings_name_none(aws: AWS, bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetRefused, match="no region is known; set `regions`"):
        await aws.target(regions=[]).discover()
    key = aws.make_balancer("front")
    bare.setenv("AWS_DEFAULT_REGION", REGION)
    assert [listener.key for listener in await aws.target(regions=[]).discover()] == [key]


async def test_an_assumed_role_works_in_its_own_account(aws: AWS, bare: pytest.MonkeyPatch) -> None:
    role = "arn:aws:iam::111122223333:role/certorbit"
    aws.make_balancer("front")
    target = aws.target(role_arn=role, external_id="sesame")
    assert list(await target.discover()) == []  # moto's accounts see their own things only
    given = boto3.client(
        "sts", region_name=REGION, endpoint_url=aws.server.url, aws_access_key_id="id", aws_secret_access_key="key"
    ).assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    acm = boto3.client(
        "acm",
        region_name=REGION,
        endpoint_url=aws.server.url,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    copy = await target.install(make_bundle("www"), scope=REGION, present=None)
    assert [one["CertificateArn"] for one in acm.list_certificates()["CertificateSummaryList"]] == [copy.handle]
    assert aws.ledger.spent == [(f"111122223333/{REGION}", "acm-import")]
    assert aws.server.count("sts:AssumeRole") == 2  # ours: once for all clients


async def test_a_role_that_we_may_not_assume_is_named(aws: AWS) -> None:
    aws.server.faults.append(Fault("sts:AssumeRole", "AccessDenied", status=403, times=10))
    with pytest.raises(CredentialsRefused, match="may call sts:AssumeRole"):
        await aws.target(role_arn="arn:aws:iam::111122223333:role/certorbit").discover()


async def test_the_check_names_rights_that_are_missing(aws: AWS) -> None:
    aws.server.denied |= {"acm:ImportCertificate", "cloudfront:UpdateDistribution"}
    findings = await aws.target().check()
    failed = {finding.what: finding.message for finding in findings if finding.grade is Grade.FAILED}
    assert set(failed) == aws.server.denied
    assert "docs/targets/aws.md" in failed["acm:ImportCertificate"]


async def test_the_check_says_what_it_could_not_try(aws: AWS) -> None:
    aws.server.faults.append(Fault("iam:SimulatePrincipalPolicy", "AccessDenied", status=403))
    (warning,) = [finding for finding in await aws.target().check() if finding.grade is not Grade.OK]
    assert (warning.what, warning.grade) == ("write", Grade.WARNING)
    assert "acm:ImportCertificate" in warning.message
    assert "elasticloadbalancing:ModifyListener" in warning.message


async def test_the_check_finds_reads_that_are_refused(aws: AWS) -> None:
    aws.server.faults.append(Fault(BALANCERS, "AccessDenied", status=403, times=100))
    findings = await aws.target().check()
    (failed,) = [finding for finding in findings if finding.grade is Grade.FAILED]
    assert failed.what == "read elbv2 in eu-west-1"
    assert "elasticloadbalancing:DescribeLoadBalancers" in failed.message


def answered(code: str, status: int = 400) -> ClientError:
    response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "ModifyListener")


@pytest.mark.parametrize(
    ("foreign", "ours", "phase"),
    [
        (answered("UnrecognizedClientException"), CredentialsRefused, ""),
        (answered("RequestLimitExceeded"), Throttled, ""),
        (answered("TooManyRequestsException"), Throttled, ""),
        (answered("ServiceUnavailable", 503), Unreachable, "read"),
        (answered("ListenerNotFound"), TargetGone, ""),
        (answered("NoSuchDistribution", 404), TargetGone, ""),
        (answered("ResourceNotFoundException"), TargetGone, ""),
        (answered("TooManyCertificates"), TargetFull, ""),
        (answered("LimitExceededException"), TargetFull, ""),
        (answered("ResourceInUseException"), TargetRefused, ""),
        (answered("UnsupportedCertificate"), TargetRefused, ""),
        (ConnectTimeoutError(endpoint_url="https://x"), Unreachable, "connect"),
        (EndpointConnectionError(endpoint_url="https://x", error="Failed to resolve 'x'"), Unreachable, "resolve"),
        (ReadTimeoutError(endpoint_url="https://x"), Unreachable, "read"),
        (SSLError(endpoint_url="https://x", error="self-signed"), Unreachable, "TLS"),
        (ParamValidationError(report="value: KEYTEXT"), TargetRefused, ""),
    ],
    ids=lambda value: getattr(value, "__name__", "") or str(value)[:60],
)
def test_every_refusal_of_aws_is_one_of_ours(foreign: Exception, ours: type[Exception], phase: str) -> None:
    made = translate(foreign, target="cloud", service="elbv2", operation="ModifyListener", subject="front")
    error = made.error if isinstance(made, Passing) else made
    assert type(error) is ours
    assert getattr(error, "phase", "") == phase
    assert "elasticloadbalancing:ModifyListener for front" in str(error)
    assert "KEYTEXT" not in str(error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_key_id": "id"},
        {"external_id": "sesame"},
        {"regions": ["eu-west-1", "eu-west-1"]},
        {"regions": ["Frankfurt"]},
        {"services": []},
        {"services": ["route53"]},
        {"role_arn": "certorbit"},
        {"tags": {"certorbit:entry": "x"}},
        {"tags": {"AWS:x": "x"}},
        {"probe_addresses": {"front": ["a b"]}},
        {"endpoint_url": "localhost"},
    ],
    ids=str,
)
def test_settings_that_can_not_work_are_refused_at_the_start(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        AWSTargetSettings.model_validate({"name": "cloud", "type": "aws", **wrong})


def test_the_smallest_table_is_enough() -> None:
    settings = AWSTargetSettings.model_validate({"name": "cloud", "type": "aws"})
    assert settings.services == ("elbv2", "elb", "cloudfront")
    assert (settings.max_listener_certificates, settings.imports_per_year) == (25, 5000)
