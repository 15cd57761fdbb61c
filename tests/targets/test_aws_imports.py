"""ACM imports: each one counts, none is made twice, nothing of others is touched."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

from certorbit.errors import TargetFull, TargetRefused, Unreachable
from certorbit.model.entry import EntryUID
from certorbit.targets.aws.import_rules import fits_in_place
from make import make_certificate, make_key
from targets.aws_bench import ACCOUNT, AWS, REGION, open_aws
from targets.aws_server import Fault
from targets.target_bench import make_bundle

IMPORT = "acm:ImportCertificate"


@pytest.fixture
async def aws() -> AsyncIterator[AWS]:
    async with AsyncExitStack() as stack:
        yield await open_aws(stack)


def held(aws: AWS) -> set[str]:
    everything = aws.client("acm").list_certificates(Includes={"keyTypes": ["RSA_2048", "EC_prime256v1"]})
    return {one["CertificateArn"] for one in everything["CertificateSummaryList"]}


def tags(aws: AWS, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in aws.client("acm").list_tags_for_certificate(CertificateArn=arn)["Tags"]}


async def test_an_import_whose_answer_was_lost_is_found_and_not_made_again(aws: AWS) -> None:
    aws.server.faults.append(Fault(IMPORT))
    copy = await aws.target().install(make_bundle("www"), scope=REGION, present=None)
    assert held(aws) == {copy.handle}
    assert aws.server.count(IMPORT) == 1
    assert aws.ledger.spent == [(f"{ACCOUNT}/{REGION}", "acm-import")]


async def test_an_import_in_place_whose_answer_was_lost_is_found(aws: AWS) -> None:
    target = aws.target()
    first = await target.install(make_bundle("www"), scope=REGION, present=None)
    aws.server.faults.append(Fault(IMPORT))
    assert await target.install(make_bundle("www", 2), scope=REGION, present=first) == first
    assert aws.server.count(IMPORT) == 2
    assert aws.fingerprint(first.handle) == make_bundle("www", 2).facts.fingerprint


async def test_an_import_that_never_came_through_is_not_sent_again_by_itself(aws: AWS) -> None:
    aws.server.faults.append(Fault(IMPORT, is_carried_out=False))
    target = aws.target()
    with pytest.raises(Unreachable) as raised:
        await target.install(make_bundle("www"), scope=REGION, present=None)
    assert raised.value.was_sent
    assert aws.server.count(IMPORT) == 1
    copy = await target.install(make_bundle("www"), scope=REGION, present=None)  # the workflow's next try
    assert held(aws) == {copy.handle}


async def test_the_same_version_is_imported_once_whatever_was_written_down(aws: AWS) -> None:
    target, bundle = aws.target(), make_bundle("www")
    copy = await target.install(bundle, scope=REGION, present=None)
    again = [None, copy, replace(copy, handle=copy.handle[:-4] + "0000"), replace(copy, handle="/etc/www.pem")]
    assert [await target.install(bundle, scope=REGION, present=one) for one in again] == [copy] * 4
    assert aws.server.count(IMPORT) == 1


async def test_two_entries_with_the_same_certificate_have_two_copies(aws: AWS) -> None:
    target, bundle = aws.target(), make_bundle("www")
    first = await target.install(bundle, scope=REGION, present=None)
    second = await target.install(replace(bundle, entry_uid=EntryUID("another")), scope=REGION, present=None)
    assert first != second


async def test_us_east_1_holds_the_copies_of_cloudfront_and_of_its_load_balancers_apart(aws: AWS) -> None:
    target, bundle = aws.target(regions=["us-east-1"]), make_bundle("www")
    copies = [await target.install(bundle, scope=scope, present=None) for scope in ("us-east-1", "cloudfront")]
    again = [await target.install(bundle, scope=scope, present=None) for scope in ("us-east-1", "cloudfront")]
    assert copies == again
    assert len({copy.handle for copy in copies}) == 2
    assert set(await target.list_copies()) == {copy.handle for copy in copies}


async def test_a_lost_copy_is_found_behind_more_than_a_page_of_others(aws: AWS) -> None:
    target = aws.target()
    for number in range(7):
        aws.import_foreign(number=number)
        await target.install(make_bundle(f"shop-{number}"), scope=REGION, present=None)
    copy = await target.install(make_bundle("www"), scope=REGION, present=None)
    aws.server.page_size = 3
    assert await target.install(make_bundle("www"), scope=REGION, present=None) == copy


async def test_the_quota_of_the_year_is_counted_before_each_import(aws: AWS) -> None:
    target = aws.target(imports_per_year=2)
    first = await target.install(make_bundle("www"), scope=REGION, present=None)
    await target.install(make_bundle("www", 2), scope=REGION, present=first)
    with pytest.raises(TargetFull, match=f"{ACCOUNT}/{REGION}"):
        await target.install(make_bundle("shop"), scope=REGION, present=None)
    assert aws.server.count(IMPORT) == 2
    assert held(aws) == {first.handle}
    assert await target.install(make_bundle("www", 2), scope=REGION, present=first) == first  # costs nothing


async def test_a_quota_of_acm_itself_is_full(aws: AWS) -> None:
    aws.server.faults.append(Fault(IMPORT, "LimitExceededException"))
    with pytest.raises(TargetFull, match="quota of the AWS account"):
        await aws.target().install(make_bundle("www"), scope=REGION, present=None)


async def test_tags_say_what_a_copy_is_also_after_an_import_in_place(aws: AWS) -> None:
    target = aws.target(tags={"team": "web"})
    copy = await target.install(make_bundle("www"), scope=REGION, present=None)
    for version in (1, 2):
        await target.install(make_bundle("www", version), scope=REGION, present=copy)
        assert tags(aws, copy.handle) == {
            "certorbit:target": "cloud",
            "certorbit:scope": REGION,
            "certorbit:entry": "uid-www",
            "certorbit:config": "prod",
            "certorbit:id": "www",
            "certorbit:version": f"www-version-{version}",
            "team": "web",
        }


async def test_a_longer_chain_for_the_same_leaf_is_imported(aws: AWS) -> None:
    target, bundle = aws.target(), make_bundle("www")
    leaf = bundle.chain_pem[: bundle.chain_pem.index("-----END") + 26]
    copy = await target.install(replace(bundle, chain_pem=leaf), scope=REGION, present=None)
    assert await target.install(bundle, scope=REGION, present=copy) == copy
    assert (
        bundle.chain_pem.removeprefix(leaf).strip()
        in aws.client("acm").get_certificate(CertificateArn=copy.handle)["CertificateChain"]
    )


async def test_certificates_of_others_are_neither_listed_nor_deleted(aws: AWS) -> None:
    foreign, other = aws.import_foreign(), aws.target(name="staging")
    theirs = await other.install(make_bundle("www"), scope=REGION, present=None)
    target = aws.target()
    for arn in (foreign, theirs.handle, "arn:aws:iam::123456789012:server-certificate/old"):
        with pytest.raises(TargetRefused, match=r"our tags|not one of ours"):
            await target.remove(arn)
    assert held(aws) == {foreign, theirs.handle}
    assert await target.list_copies() == {}


async def test_what_acm_says_no_to_is_told_without_the_key(aws: AWS) -> None:
    bundle = make_bundle("www")
    assert bundle.key is not None
    key = bundle.key.reveal()
    aws.server.faults.append(Fault(IMPORT, "ValidationException", message=f"Value '{key}' at 'privateKey' is wrong"))
    with pytest.raises(TargetRefused, match="ValidationException") as raised:
        await aws.target().install(bundle, scope=REGION, present=None)
    assert not any(line in raised.value.message for line in key.splitlines()[1:-1])


async def test_a_ca_bundle_is_refused(aws: AWS) -> None:
    with pytest.raises(TargetRefused, match="no private key"):
        await aws.target().install(replace(make_bundle("www"), key=None), scope=REGION, present=None)


def usage(**granted: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    rest = {"key_cert_sign": False, "crl_sign": False, "encipher_only": False, "decipher_only": False}
    return x509.KeyUsage(**{**dict.fromkeys(names, False), **rest, **granted})


SIGN = usage(digital_signature=True)
BOTH = usage(digital_signature=True, key_encipherment=True)
SERVER = x509.ExtendedKeyUsage([Purpose.SERVER_AUTH])
SERVER_AND_CLIENT = x509.ExtendedKeyUsage([Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH])
SERVER_AND_MAIL = x509.ExtendedKeyUsage([Purpose.SERVER_AUTH, Purpose.EMAIL_PROTECTION])


@pytest.mark.parametrize(
    ("old", "new", "fits"),
    [
        pytest.param(("rsa-2048", SIGN), ("rsa-2048", BOTH), True, id="ok/usage-added"),
        pytest.param(("rsa-2048", BOTH), ("rsa-2048", SIGN), False, id="refused/usage-dropped"),
        pytest.param(("ecdsa-p256", BOTH), ("ecdsa-p256", SIGN), True, id="ok/keyEncipherment-dropped-on-ECDSA"),
        pytest.param(("rsa-2048", SIGN), ("rsa-2048",), False, id="refused/usage-extension-dropped"),
        pytest.param(("rsa-2048",), ("rsa-2048", SIGN), False, id="refused/usage-extension-new"),
        pytest.param(("rsa-2048", SERVER_AND_CLIENT), ("rsa-2048", SERVER), True, id="ok/clientAuth-dropped"),
        pytest.param(("rsa-2048", SERVER_AND_MAIL), ("rsa-2048", SERVER), False, id="refused/purpose-dropped"),
        pytest.param(("rsa-2048", SERVER), ("rsa-2048", SERVER_AND_MAIL), True, id="ok/purpose-added"),
        pytest.param(("rsa-2048",), ("rsa-3072",), False, id="refused/another-size"),
        pytest.param(("ecdsa-p256",), ("ecdsa-p384",), False, id="refused/another-curve"),
        pytest.param(("ecdsa-p256",), ("rsa-2048",), False, id="refused/another-type"),
    ],
)
def test_acm_lets_a_certificate_take_anothers_place_by_its_rules(old: tuple, new: tuple, *, fits: bool) -> None:
    made = [
        make_certificate(key=make_key(kind), subject="CN=x", extensions=extensions, now=datetime.now(UTC))
        for kind, *extensions in (old, new)
    ]
    assert fits_in_place(*made) is fits
