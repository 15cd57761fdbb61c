"""What every provider of key wrapping promises (ports/key_wrapping.py), with something real behind it where possible."""

import os
from collections.abc import AsyncIterator

import pytest
from pydantic import ValidationError

from certorbit.errors import Broken, CertorbitError, Outside, Unreachable
from certorbit.keyring_settings import GCPKMSSettings, KeyringSettings, PKCS11Settings, TransitSettings
from certorbit.keys.crc32c import crc32c
from certorbit.keys.envelope import KEY_BYTES, KeyEncryptionKey
from certorbit.keys.gcp_kms import GCPWrapping
from certorbit.keys.keeper import KeyWrappings
from certorbit.keys.pkcs11_wrapping import PKCS11Wrapping
from certorbit.keys.transit import TransitWrapping
from certorbit.model.keyring import StoredKey
from certorbit.ports.key_wrapping import WrappedKey
from fakes.clock import START, FakeChance, FakeClock
from keyrings import google_kms_stand_in
from keyrings.google_kms_stand_in import GoogleKMSStandIn
from keyrings.transit_stand_in import TOKEN, TransitStandIn
from keyrings.wrapping_benches import BENCHES, MODULE, PIN, TOKEN_LABEL, Bench, make_soft_hsm


@pytest.fixture(params=list(BENCHES))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with BENCHES[request.param]() as bench:
        yield bench


def assert_hides(error: BaseException, key: bytes, bench: Bench) -> None:
    """Fail if the key or a credential is in the error, or in one that it came from."""
    step: BaseException | None = error
    while step is not None:
        for text in (str(step), repr(step)):
            assert key.hex() not in text
            assert repr(key)[2:-1] not in text
            assert not [secret for secret in bench.secrets if secret in text]
        step = step.__cause__


async def test_what_was_wrapped_comes_back_and_is_not_seen(bench: Bench) -> None:
    key = os.urandom(KEY_BYTES)
    wrapped = await bench.wrapping.wrap(key, key_id="aa")
    assert wrapped.wrapping_key == bench.named
    assert key not in wrapped.blob
    assert "blob" not in repr(wrapped)
    assert await bench.wrapping.unwrap(wrapped, key_id="aa") == key


async def test_a_key_for_another_id_is_noticed(bench: Bench) -> None:
    key = os.urandom(KEY_BYTES)
    wrapped = await bench.wrapping.wrap(key, key_id=KeyEncryptionKey(key).id)
    other = KeyEncryptionKey(os.urandom(KEY_BYTES)).id
    wrappings = KeyWrappings({"p": bench.wrapping}, provider="p")
    with pytest.raises(CertorbitError) as refusal:
        await wrappings.unwrap(StoredKey(other, "p", wrapped.wrapping_key, wrapped.blob, START))
    assert_hides(refusal.value, key, bench)


async def test_a_damaged_key_is_refused(bench: Bench) -> None:
    key = os.urandom(KEY_BYTES)
    wrapped = await bench.wrapping.wrap(key, key_id="aa")
    blob = bytearray(wrapped.blob)
    blob[-5] = blob[-5] ^ 1 if blob[-5] not in b"/0" else blob[-5] + 2  # stays base64 where it is
    with pytest.raises((Broken, Outside)) as refusal:
        await bench.wrapping.unwrap(WrappedKey(wrapped.wrapping_key, bytes(blob)), key_id="aa")
    assert_hides(refusal.value, key, bench)


async def test_another_key_of_the_service_does_not_unwrap(bench: Bench) -> None:
    if bench.named.startswith("arn:"):
        return  # AWS is told which key: the stored one
    wrapped = await bench.wrapping.wrap(os.urandom(KEY_BYTES), key_id="aa")
    other = WrappedKey(wrapped.wrapping_key.replace("wrapping", "other").replace("certorbit:", "other:"), wrapped.blob)
    if other == wrapped:
        other = WrappedKey(wrapped.wrapping_key.replace("/main", "/main-other"), wrapped.blob)
    with pytest.raises((Broken, Outside)):
        await bench.other.unwrap(other, key_id="aa")


async def test_a_failure_that_passes_is_not_seen(bench: Bench) -> None:
    if bench.fail_once is None:
        return  # nothing that could fail for a moment
    key = os.urandom(KEY_BYTES)
    bench.fail_once("Encrypt")
    wrapped = await bench.wrapping.wrap(key, key_id="aa")
    assert len(bench.clock.slept) == 1
    for _ in range(2):
        bench.fail_once("Decrypt")
    assert await bench.wrapping.unwrap(wrapped, key_id="aa") == key


async def test_a_failure_that_stays_is_unreachable_after_three_tries(bench: Bench) -> None:
    if bench.fail_once is None:
        return  # as above
    for _ in range(3):
        bench.fail_once("Encrypt")
    key = os.urandom(KEY_BYTES)
    with pytest.raises(Unreachable) as failure:
        await bench.wrapping.wrap(key, key_id="aa")
    assert len(bench.clock.slept) == 2
    assert_hides(failure.value, key, bench)


async def test_a_refusal_is_final_and_says_what_to_do(bench: Bench) -> None:
    if bench.refuse is None:
        return  # nobody who could say no
    bench.refuse()
    key = os.urandom(KEY_BYTES)
    with pytest.raises(Outside) as refusal:
        await bench.wrapping.wrap(key, key_id="aa")
    assert not isinstance(refusal.value, Unreachable)
    assert bench.refusal in refusal.value.message
    assert bench.clock.slept == []
    assert_hides(refusal.value, key, bench)


async def test_an_older_version_of_a_transit_key_decrypts_until_it_is_trimmed() -> None:
    async with TransitStandIn() as service:
        settings = TransitSettings(url=service.url, key="certorbit", token=TOKEN)
        wrapping = TransitWrapping(settings, clock=FakeClock(auto_advance=True), chance=FakeChance())
        wrapped = await wrapping.wrap(b"k" * 32, key_id="aa")
        service.versions.append(os.urandom(32))
        assert (await wrapping.wrap(b"k" * 32, key_id="aa")).wrapping_key == "transit/certorbit:v2"
        assert await wrapping.unwrap(wrapped, key_id="aa") == b"k" * 32
        service.minimum = 2
        with pytest.raises(Outside, match="too old"):
            await wrapping.unwrap(wrapped, key_id="aa")


async def test_garbled_data_is_asked_for_again() -> None:
    async with GoogleKMSStandIn() as service:
        settings = GCPKMSSettings(
            key=google_kms_stand_in.KEY, token=google_kms_stand_in.TOKEN, endpoint_url=service.url
        )
        wrapping = GCPWrapping(settings, clock=FakeClock(auto_advance=True), chance=FakeChance())
        service.garbles = 1
        wrapped = await wrapping.wrap(b"k" * 32, key_id="aa")
        service.garbles = 1
        assert await wrapping.unwrap(wrapped, key_id="aa") == b"k" * 32
        assert len(service.requests) == 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pin": "0000"}, "the PIN is wrong"),
        ({"token_label": "nobody"}, "no token of this label"),
        ({"key_label": "nobody"}, "no secret key of this label"),
        ({"module": "/nowhere.so"}, "check the module's path"),
    ],
)
async def test_a_security_module_that_can_not_be_used_says_why(change: dict[str, str], says: str) -> None:
    make_soft_hsm()
    settings = {"module": str(MODULE), "token_label": TOKEN_LABEL, "key_label": "wrapping", "pin": PIN}
    wrapping = PKCS11Wrapping(PKCS11Settings(**{**settings, **change}))
    with pytest.raises(Outside, match=says) as refusal:
        await wrapping.wrap(b"k" * 32, key_id="aa")
    assert PIN not in refusal.value.message


# RFC 3720 §B.4, and the usual check value.
@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_the_checksum_is_crc32c(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"provider": "transit"}, "needs the table"),
        ({"transit": {"url": "http://vault.internal:8200", "key": "k", "token": "hvs.geheim"}}, "https"),
        ({"transit": {"url": "https://me:geheim@vault", "key": "k", "token": "t"}}, "without user"),
        ({"transit": {"url": "https://vault", "key": "k"}}, "give token, or role_id and secret_id"),
        ({"transit": {"url": "https://vault", "key": "k", "token": "geheim", "role_id": "r"}}, "give token, or"),
        ({"aws_kms": {"key_id": "k", "secret_access_key": "geheim"}}, "go together"),
        ({"gcp_kms": {"key": "main"}}, "pattern"),
        ({"nonsense": 1}, "Extra inputs"),
    ],
)
def test_settings_that_can_not_work_are_refused_without_showing_them(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as refusal:
        KeyringSettings.model_validate(settings)
    assert "geheim" not in str(refusal.value)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from certorbit.settings import Settings

    monkeypatch.setenv("CERTORBIT_KEYRING__PROVIDER", "transit")
    monkeypatch.setenv("CERTORBIT_KEYRING__TRANSIT__URL", "https://vault.internal:8200/")
    monkeypatch.setenv("CERTORBIT_KEYRING__TRANSIT__KEY", "certorbit")
    monkeypatch.setenv("CERTORBIT_KEYRING__TRANSIT__TOKEN", "hvs.geheim")
    settings = Settings().keyring
    assert settings.transit is not None
    assert (settings.transit.url, settings.transit.token.get_secret_value()) == (
        "https://vault.internal:8200",
        "hvs.geheim",
    )
    assert "geheim" not in repr(settings)
