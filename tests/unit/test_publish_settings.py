"""`[publish]`: what is taken and what is refused before anything is opened."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError

from certorbit.publish_settings import BucketSettings, PublishSettings, parse_recipient_key, split_bucket_url

KEY = X25519PrivateKey.from_private_bytes(b"\x07" * 32)
RAW = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
OTHER_KIND = (
    generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("file:///srv/edge/", ("file", "", "/srv/edge")),
        ("file:///srv//my%20edge", ("file", "", "/srv/my edge")),
        ("s3://bucket", ("s3", "bucket", "")),
        ("s3://my.bucket-1/a/b_c=1/", ("s3", "my.bucket-1", "a/b_c=1")),
        ("gs://bucket_1/a", ("gs", "bucket_1", "a")),
    ],
)
def test_urls_of_the_three_kinds_are_taken_apart(url: str, parts: tuple[str, str, str]) -> None:
    assert split_bucket_url(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/edge",
        "file://srv/edge",
        "file:///",
        "file:///srv/../etc",
        "file:///srv/%2e%2e/etc",
        "file:///srv/a%00b",
        "file:edge",
        "file:///srv?x",
        "s3://",
        "s3://a",
        "s3://Bucket",
        "s3://bucket/../other",
        "s3://bucket/a?x=1",
        "s3://bucket/a#b",
        "s3://user@bucket/a",
        "s3://bucket/a b",
        "https://bucket/a",
        "http://169.254.169.254/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"write|neither"):
        split_bucket_url(url)
    with pytest.raises(ValidationError):
        BucketSettings(name="edge", url=url)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"url": "file:///srv", "region": "eu"}, "region is not for file://"),
        ({"url": "file:///srv", "endpoint_url": "https://x"}, "endpoint_url is not for file://"),
        ({"url": "gs://bucket", "access_key_id": "a"}, "access_key_id is not for gs://"),
        ({"url": "s3://bucket", "credentials_file": "/x"}, "credentials_file is not for s3://"),
        ({"url": "s3://bucket", "access_key_id": "a"}, "go together"),
        ({"url": "s3://bucket", "session_token": "a"}, "is for access_key_id"),
        ({"url": "gs://bucket", "token": "a", "credentials_file": "/x"}, "not both"),
        ({"url": "s3://bucket", "endpoint_url": "http://s3.example.com"}, "must be https"),
        ({"url": "s3://bucket", "endpoint_url": "https://me:pw@s3.example.com"}, "without user"),
        ({"url": "s3://bucket", "name": "../x"}, "name"),
        ({"url": "s3://bucket", "colour": "red"}, "colour"),
    ],
)
def test_tables_that_mean_nothing_are_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BucketSettings.model_validate({"name": "edge", **table})


@pytest.mark.parametrize("endpoint", ["https://s3.example.com:9000/", "http://127.0.0.1:1", "http://[::1]:1"])
def test_endpoints_are_https_or_on_this_machine(endpoint: str) -> None:
    table = BucketSettings(name="edge", url="s3://bucket/a/", endpoint_url=endpoint)
    assert table.endpoint_url == endpoint.rstrip("/")
    assert (table.url, table.scheme) == ("s3://bucket/a", "s3")


@pytest.mark.parametrize("text", [PEM, f"\n{PEM}\n", base64.b64encode(RAW).decode()])
def test_a_recipient_key_is_pem_or_base64(text: str) -> None:
    assert parse_recipient_key(text).public_bytes(Encoding.Raw, PublicFormat.Raw) == RAW
    assert PublishSettings(recipient_key=text).recipient_key == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        base64.b64encode(RAW[:31]).decode(),
        base64.b64encode(bytes(32)).decode(),  # a point of small order: whoever knows that can open it
        base64.b64encode(b"\x01" + bytes(31)).decode(),
        OTHER_KIND.decode(),
        PRIVATE,
        "-----BEGIN PUBLIC KEY-----",
    ],
)
def test_what_is_no_public_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValidationError, match="give an X25519 public key") as caught:
        PublishSettings(recipient_key=text)
    for line in text.splitlines():
        assert line.startswith("-----") or line not in str(caught.value)


def test_names_and_urls_are_unique_and_the_default_exists() -> None:
    one, two = BucketSettings(name="one", url="file:///a"), BucketSettings(name="two", url="file:///b")
    assert PublishSettings(buckets=(one, two), default="two").default == "two"
    with pytest.raises(ValidationError, match="name 'one' is given twice"):
        PublishSettings(buckets=(one, BucketSettings(name="one", url="file:///b")))
    with pytest.raises(ValidationError, match="url 'file:///a' is given twice"):
        PublishSettings(buckets=(one, BucketSettings(name="two", url="file:///a/")))
    with pytest.raises(ValidationError, match="there are one, two"):
        PublishSettings(buckets=(one, two), default="three")


def test_secrets_are_in_no_text() -> None:
    table = BucketSettings(
        name="edge", url="s3://bucket", access_key_id="a", secret_access_key="hidden-1", session_token="hidden-2"
    )
    assert "hidden" not in repr(table) + str(table) + table.model_dump_json()
