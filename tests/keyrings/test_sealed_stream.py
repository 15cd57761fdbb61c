"""The container of a backup: what opens it, and that nothing of it can be changed, cut off, moved or added."""

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from certorbit.errors import BadInput
from certorbit.keys.sealed_stream import (
    CHUNK,
    MAGIC,
    Identity,
    Passphrase,
    Recipient,
    SealedWriter,
    Unlock,
    read_chunks,
    read_header,
)

HEADER = {"version": 1, "note": "for anybody to read"}


class KnownKey:
    """A lock that takes no time."""

    def new_key(self) -> tuple[bytes, Mapping[str, Any]]:
        return b"k" * 32, {"kind": "known"}

    def find_key(self, _seal: Mapping[str, Any]) -> bytes:
        return b"k" * 32


def write(data: bytes, lock: Any = None) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, HEADER, lock or KnownKey())
    for start in range(0, len(data), 50_000):
        writer.write(data[start : start + 50_000])
    writer.close()
    return file.getvalue()


def read(content: bytes, unlock: Unlock | None = None) -> bytes:
    file = io.BytesIO(content)
    header, beginning = read_header(file)
    return b"".join(read_chunks(file, beginning, key=(unlock or KnownKey()).find_key(header["seal"])))


def make_pair() -> tuple[bytes, bytes]:
    key = X25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 200_001])
def test_what_was_written_is_read_again(length: int) -> None:
    data = (b"secret" * (length // 6 + 1))[:length]
    content = write(data)
    assert read(content) == data
    assert b"secretsecret" not in content
    header, _ = read_header(io.BytesIO(content))
    assert header["note"] == HEADER["note"]


def test_a_passphrase_opens_what_it_locked_and_no_other_does() -> None:
    content = write(b"data", Passphrase("correct horse battery"))
    assert read(content, Passphrase("correct horse battery")) == b"data"
    with pytest.raises(BadInput, match="the passphrase or key is another one, or the file is damaged"):
        read(content, Passphrase("correct horse batteri"))


def test_a_recipient_opens_what_was_made_for_him_and_nobody_else_does() -> None:
    private, public = make_pair()
    content = write(b"data", Recipient(public))
    assert read(content, Identity(private)) == b"data"
    with pytest.raises(BadInput, match="for another recipient's key"):
        read(content, Identity(make_pair()[0]))
    with pytest.raises(BadInput, match="--identity"):
        read(content, Passphrase("correct horse battery"))
    with pytest.raises(BadInput, match="locked by a passphrase"):
        read(write(b"data", Passphrase("correct horse battery")), Identity(private))


@pytest.mark.parametrize("pem", [b"", b"geheim", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_refused_without_showing_it(pem: bytes) -> None:
    for make in (Recipient, Identity):
        with pytest.raises(BadInput, match="X25519") as refusal:
            make(pem)
        assert "geheim" not in str(refusal.value)
        assert refusal.value.__cause__ is None


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(BadInput, match="12 characters or more"):
        Passphrase("hunter2")
    assert "battery" not in repr(Passphrase("correct horse battery"))


def test_a_changed_byte_anywhere_is_noticed() -> None:
    content = write(b"data" * 3)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(BadInput):
            read(bytes(changed))


def test_a_file_that_is_cut_off_anywhere_is_noticed() -> None:
    content = write(b"x" * (CHUNK + 5))
    beginning = content.index(b"\n", len(MAGIC)) + 1
    ends_of_chunks = [beginning, beginning + 4 + CHUNK + 16]
    for end in [*range(beginning + 40), *ends_of_chunks, len(content) - 1]:
        with pytest.raises(BadInput):
            read(content[:end])


def test_chunks_can_not_be_moved_left_out_or_added() -> None:
    content = write(b"a" * CHUNK + b"b" * CHUNK + b"c")
    beginning = content.index(b"\n", len(MAGIC)) + 1
    size = 4 + CHUNK + 16
    first, second, last = content[beginning : beginning + size], content[beginning + size : -21], content[-21:]
    assert read(content[:beginning] + first + second + last)
    for chunks in (second + first + last, first + last, first + second, last, first + second + last + last):
        with pytest.raises(BadInput):
            read(content[:beginning] + chunks)


@pytest.mark.parametrize(
    "seal",
    [
        {"kind": "scrypt", "n": 2**30, "r": 8, "p": 1, "salt": "AAAA"},
        {"kind": "scrypt", "n": 2**17 + 1, "r": 8, "p": 1, "salt": "AAAA"},
        {"kind": "scrypt", "n": 2**17, "r": 800, "p": 1, "salt": "AAAA"},
        {"kind": "scrypt", "n": "many", "r": 8, "p": 1, "salt": "AAAA"},
        {"kind": "scrypt", "n": 2, "r": 8, "p": 1, "salt": "?"},
    ],
)
def test_a_hostile_header_gets_no_memory_and_no_time(seal: dict[str, object]) -> None:
    content = MAGIC + json.dumps({"seal": seal}).encode() + b"\n"
    with pytest.raises(BadInput):
        read(content, Passphrase("correct horse battery"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", MAGIC, MAGIC + b"{}\n", MAGIC + b"[1]\n", MAGIC + b"x" * 100])
def test_another_file_is_no_backup(content: bytes) -> None:
    with pytest.raises(BadInput, match="no backup"):
        read(content)
