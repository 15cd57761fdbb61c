"""The envelope and the keyring: what opens, what doesn't, and what never shows."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certorbit.errors import Broken
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.keys.keyring import LocalKeyring

OLD = bytes(range(32))
NEW = bytes(range(100, 132))
SECRET = b"-----BEGIN PRIVATE KEY-----"

# (region, first byte, first byte after it) of an envelope of SECRET.
REGIONS = [
    ("version marker", 0, 1),
    ("key id", 1, 9),
    ("wrap nonce", 9, 21),
    ("wrapped key", 21, 53),
    ("wrapped key's tag", 53, 69),
    ("nonce", 69, 81),
    ("ciphertext", 81, 81 + len(SECRET)),
    ("tag", 81 + len(SECRET), 81 + len(SECRET) + 16),
]

# An envelope of SECRET for "version:1", made once by this code with OLD.
FIRST_RELEASE = (
    "01630dcd2966c4336671991321d5e9825d7672aec1f8ddca9bdaf1ccd6a8ff22848d04182a4ff597"
    "28400fd5310330af85c23858b889aa6b13ec226ca21eae91ddcf88c5fc79ef4fa81961615cd46ec5"
    "43fe521df4f1d0b02ae6c1ddab7dcab756edcccb415952f1ec273e873be16a173db2ef021bd5cfec"
    "645884d8"
)


def make_keyring(*keys: bytes) -> LocalKeyring:
    return LocalKeyring([KeyEncryptionKey(key) for key in keys])


@given(secret=st.binary(max_size=5000), context=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_what_was_sealed_opens_in_its_context(secret: bytes, context: str) -> None:
    keyring = make_keyring(OLD)
    assert keyring.open(keyring.seal(secret, context=context), context=context) == secret


def test_the_layout_is_as_documented() -> None:
    envelope = make_keyring(OLD).seal(SECRET, context="version:1")
    # SHA-256 of the bytes 00..1f, checked with sha256sum.
    assert envelope[:9] == b"\x01" + bytes.fromhex("630dcd2966c43366")
    assert len(envelope) == REGIONS[-1][2]
    assert SECRET not in envelope


def test_an_envelope_of_the_first_release_still_opens() -> None:
    # A change of the format would lock people out of their keys.
    envelope = bytes.fromhex(FIRST_RELEASE)
    assert make_keyring(OLD).open(envelope, context="version:1") == SECRET


def test_sealing_twice_gives_two_envelopes_that_share_no_key_or_nonce() -> None:
    keyring = make_keyring(OLD)
    first, second = (keyring.seal(SECRET, context="c") for _ in range(2))
    assert first[:9] == second[:9]
    for _, start, end in REGIONS[2:]:
        assert first[start:end] != second[start:end]


@pytest.mark.parametrize(("start", "end"), [pytest.param(s, e, id=name) for name, s, e in REGIONS])
def test_a_changed_byte_anywhere_is_noticed(start: int, end: int) -> None:
    keyring = make_keyring(OLD, NEW)
    envelope = keyring.seal(SECRET, context="version:1")
    for position in range(start, end):
        damaged = bytearray(envelope)
        damaged[position] ^= 0x01
        with pytest.raises(Broken) as failure:
            keyring.open(bytes(damaged), context="version:1")
        assert "PRIVATE KEY" not in failure.value.message


def test_an_envelope_cut_anywhere_is_noticed() -> None:
    keyring = make_keyring(OLD)
    envelope = keyring.seal(b"", context="c")
    for length in range(len(envelope)):
        with pytest.raises(Broken):
            keyring.open(envelope[:length], context="c")
    with pytest.raises(Broken):
        keyring.open(envelope + b"\x00", context="c")


@pytest.mark.parametrize("context", ["version:2", "order:1", "", "version:1 "])
def test_an_envelope_moved_to_another_row_does_not_open(context: str) -> None:
    keyring = make_keyring(OLD)
    envelope = keyring.seal(SECRET, context="version:1")
    with pytest.raises(Broken, match="is damaged or belongs to another row"):
        keyring.open(envelope, context=context)


def test_another_key_id_of_the_same_keyring_does_not_open_it() -> None:
    keyring = make_keyring(OLD, NEW)
    envelope = bytearray(keyring.seal(SECRET, context="c"))
    envelope[1:9] = bytes.fromhex(KeyEncryptionKey(NEW).id)
    with pytest.raises(Broken, match="is damaged"):
        keyring.open(bytes(envelope), context="c")


def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens() -> None:
    before = make_keyring(OLD).seal(SECRET, context="c")
    rotated = make_keyring(NEW, OLD)
    assert rotated.key_id == KeyEncryptionKey(NEW).id
    assert rotated.open(before, context="c") == SECRET
    assert make_keyring(NEW).open(rotated.seal(SECRET, context="c"), context="c") == SECRET


def test_a_missing_key_is_named() -> None:
    envelope = make_keyring(OLD).seal(SECRET, context="c")
    with pytest.raises(Broken, match=f"sealed by the key-encryption key {KeyEncryptionKey(OLD).id}, which is missing"):
        make_keyring(NEW).open(envelope, context="c")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Broken, match=f"32 bytes, not {length}"):
        KeyEncryptionKey(b"k" * length)


def test_a_keyring_without_a_key_is_refused() -> None:
    with pytest.raises(Broken, match="at least one"):
        LocalKeyring([])


@pytest.mark.parametrize("thing", [KeyEncryptionKey(OLD), make_keyring(OLD, NEW)], ids=["key", "keyring"])
def test_no_key_is_shown_copied_or_pickled(thing: object) -> None:
    for text in (repr(thing), str(thing), f"{thing}", f"{[thing]}"):
        assert KeyEncryptionKey(OLD).id in text
        assert OLD.hex() not in text
        assert str(OLD)[2:-1] not in text
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            leak(thing)
    assert not hasattr(thing, "__dict__")
    held = [getattr(thing, name) for name in type(thing).__slots__]  # type: ignore[attr-defined]
    assert OLD not in held
