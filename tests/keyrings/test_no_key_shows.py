"""Private keys and what opens them are in memory only: no representation, copy, exception or log line has them."""

import base64
import copy
import io
import pickle
import pprint
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from certorbit.acme.jws import AccountKey
from certorbit.errors import CertorbitError
from certorbit.keyring_settings import AWSKMSSettings, GCPKMSSettings, KeyringSettings, PKCS11Settings, TransitSettings
from certorbit.keys.assembly import make_wrappings
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.keys.keeper import KeyringKeeper
from certorbit.keys.keyring import LocalKeyring
from certorbit.keys.sealed_stream import Identity, Passphrase
from certorbit.keys.sources import load_keys
from certorbit.model.balancer import Bundle
from certorbit.model.entry import ConfigID, EntryID, EntryUID, VersionID
from certorbit.model.keyring import SealedSecret, StoredKey
from certorbit.model.material import PrivateKeyPEM
from certorbit.ports.key_wrapping import WrappedKey
from certorbit.settings import Settings
from fakes.clock import START, FakeChance, FakeClock
from keyrings.test_sealed_stream import make_pair
from make import make_chain
from records import make_account, make_authority, make_entry, make_facts, make_intent, make_version

RAW = bytes(range(40, 72))
TEXT = base64.b64encode(RAW).decode()
CREDENTIAL = "credential-of-a-provider"
KEY = make_chain().key_pem
BODY = "".join(KEY.splitlines()[1:-1])
ENVELOPE = KeyEncryptionKey(RAW).seal(KEY.encode(), context="c")


def make_keyring_settings() -> KeyringSettings:
    return KeyringSettings(
        aws_kms=AWSKMSSettings(key_id="k", access_key_id="id", secret_access_key=CREDENTIAL),
        gcp_kms=GCPKMSSettings(key="projects/p/locations/l/keyRings/r/cryptoKeys/k", token=CREDENTIAL),
        transit=TransitSettings(url="https://vault", key="k", token=CREDENTIAL),
        pkcs11=PKCS11Settings(module="/m.so", token_label="t", key_label="k", pin=CREDENTIAL),
    )


def make_wrapping_parts() -> Any:
    keys = [KeyEncryptionKey(RAW)]
    return make_wrappings(make_keyring_settings(), keys, clock=FakeClock(), chance=FakeChance())


def make_keeper() -> KeyringKeeper:
    keys = [KeyEncryptionKey(RAW)]
    return KeyringKeeper(keys, store=None, wrappings=make_wrapping_parts(), clock=FakeClock())  # type: ignore[arg-type]


def make_bundle() -> Bundle:
    return Bundle(
        config=ConfigID("prod"),
        entry_id=EntryID("shop"),
        entry_uid=EntryUID("u"),
        version=VersionID("v"),
        chain_pem=make_chain().chain_pem,
        key=PrivateKeyPEM(KEY),
        facts=make_facts(),
    )


THINGS: dict[str, Callable[[], Any]] = {
    "key-encryption key": lambda: KeyEncryptionKey(RAW),
    "keyring": lambda: LocalKeyring([KeyEncryptionKey(RAW)]),
    "keeper": make_keeper,
    "providers": make_wrapping_parts,
    "keyring settings": make_keyring_settings,
    "settings": lambda: Settings(key_encryption_key=TEXT, keyring=make_keyring_settings()),
    "wrapped key": lambda: WrappedKey("k", RAW),
    "stored key": lambda: StoredKey("id", "file", "k", RAW, START),
    "sealed secret": lambda: SealedSecret("versions.sealed_key", ("v",), "c", ENVELOPE),
    "private key": lambda: PrivateKeyPEM(KEY),
    "account key": lambda: AccountKey.from_pem(KEY.encode()),
    "bundle": make_bundle,
    "version": lambda: make_version("u", sealed_key=ENVELOPE),
    "entry": make_entry,
    "order": lambda: replace(make_intent(), sealed_key=ENVELOPE),
    "account": lambda: replace(make_account(), sealed_key=ENVELOPE),
    "authority": lambda: replace(make_authority(), sealed_root_key=ENVELOPE),
    "passphrase": lambda: Passphrase(CREDENTIAL),
    "identity": lambda: Identity(make_pair()[0]),
}


def traces_of(secret: bytes) -> list[str]:
    """Return how bytes look where they were let out."""
    return [secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode()]


DER = load_pem_private_key(KEY.encode(), password=None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
TRACES = [*traces_of(RAW), *traces_of(ENVELOPE), *traces_of(DER), BODY[:40], BODY[-40:], "PRIVATE KEY-", CREDENTIAL]


def assert_hidden(text: str, what: str) -> None:
    found = [number for number, trace in enumerate(TRACES) if trace in text]
    assert not found, f"{what} shows secret number {found}"


def test_the_search_would_find_a_secret() -> None:
    for secret in (RAW.hex(), str(RAW), TEXT, KEY, f"pin={CREDENTIAL}", str(ENVELOPE)):
        with pytest.raises(AssertionError, match="shows secret number"):
            assert_hidden(secret, "it")


@pytest.mark.parametrize("name", list(THINGS))
def test_nothing_shows_a_key(name: str) -> None:
    thing = THINGS[name]()
    for text in (repr(thing), str(thing), f"{thing}", f"{[thing]} { ({'a': thing}) }", pprint.pformat(thing)):
        assert_hidden(text, name)
    for holder in vars(thing).values() if hasattr(thing, "__dict__") else ():
        assert_hidden(repr(holder), name)


@pytest.mark.parametrize("name", list(THINGS))
def test_an_exception_that_holds_it_and_its_traceback_show_no_key(name: str) -> None:
    thing = THINGS[name]()
    shown = io.StringIO()
    try:
        raise ValueError("it failed", thing)  # noqa: TRY301 - what libraries do
    except ValueError as error:
        traceback.print_exc(file=shown)
        captured = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert_hidden("".join(captured.format()), name)
    assert_hidden(shown.getvalue(), name)


@pytest.mark.parametrize("name", ["key-encryption key", "keyring", "keeper", "private key", "account key", "bundle"])
def test_what_is_open_is_never_pickled(name: str) -> None:
    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(THINGS[name]())


@pytest.mark.parametrize("name", ["key-encryption key", "keyring"])
def test_what_is_open_is_never_copied(name: str) -> None:
    with pytest.raises(TypeError, match="never pickled"):
        copy.deepcopy(THINGS[name]())


@pytest.mark.parametrize("name", ["stored key", "sealed secret", "wrapped key", "version", "order", "account"])
def test_what_is_stored_is_sealed_even_in_a_pickle(name: str) -> None:
    thing = THINGS[name]()
    assert is_dataclass(thing)
    content = pickle.dumps(thing) + repr(asdict(thing)).encode()  # type: ignore[call-overload]
    for secret in (DER, KEY.encode(), BODY[:40].encode()):
        assert secret not in content


def test_errors_of_the_keyring_show_no_key(tmp_path: Path) -> None:
    keyring = LocalKeyring([KeyEncryptionKey(RAW)])
    damaged = ENVELOPE[:-1] + bytes([ENVELOPE[-1] ^ 1])
    attempts: list[Callable[[], object]] = [
        lambda: keyring.open(ENVELOPE, context="other"),
        lambda: keyring.open(damaged, context="c"),
        lambda: keyring.open(ENVELOPE[:50], context="c"),
        lambda: LocalKeyring([KeyEncryptionKey(b"x" * 32)]).open(ENVELOPE, context="c"),
        lambda: keyring.rewrap(ENVELOPE, context="other"),
        lambda: KeyEncryptionKey(RAW + b"x"),
        lambda: load_keys(Settings(data_dir=tmp_path, key_encryption_key=TEXT[:-6] + "====")),
        lambda: load_keys(Settings(data_dir=tmp_path, key_encryption_key=f"{TEXT} {KEY}")),
    ]
    for attempt in attempts:
        with pytest.raises(CertorbitError) as failure:
            attempt()
        step: BaseException | None = failure.value
        while step is not None:
            # Without the tests' own locals: what a traceback prints.
            assert_hidden("".join(traceback.format_exception_only(step)), "the error")
            step = step.__cause__


CHILD = """
import ctypes, resource
from certorbit.cli.memory import forbid_memory_dumps
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
forbid_memory_dumps()
print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_no_crash_writes_a_core_dump() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "0", "0", "0"], done.stderr
