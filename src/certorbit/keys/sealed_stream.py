"""An encrypted file that is written and read as a stream: a backup's container.

    certorbit-backup\\n
    one line of JSON: the header, readable by anybody
    chunks: length (4 bytes, big-endian), AES-256-GCM ciphertext of at most 64 KiB and its tag

The file's key is derived from a passphrase (scrypt, RFC 7914) or sealed to a recipient (HPKE, RFC 9180). It is used
for this file alone, so the nonce is the chunk's number, with a last byte of 1 for the last chunk; the associated data
is the digest of all before the first chunk. What is cut off, changed, moved or added is noticed.
"""

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, BinaryIO, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from certorbit.errors import BadInput

MAGIC: Final = b"certorbit-backup\n"
CHUNK: Final = 65_536
_TAG: Final = 16
_LONGEST_HEADER: Final = 1_048_576
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO: Final = b"certorbit-backup/1"
# 128 MiB and a third of a second, for a file that may be stolen and guessed at for years.
_SCRYPT_N: Final = 2**17
_MOST_N: Final = 2**20  # of a file that is read: a header can't ask for more memory than 1 GiB
SHORTEST_PASSPHRASE: Final = 12


class Lock(Protocol):
    """Locks a new file: returns its key, and what its header says for whoever unlocks it."""

    def new_key(self) -> tuple[bytes, Mapping[str, Any]]: ...


class Unlock(Protocol):
    def find_key(self, seal: Mapping[str, Any]) -> bytes:
        """Return the file's key by what its header says.

        Raises:
            BadInput: it is locked in another way, or for somebody else.
        """
        ...


@dataclass(frozen=True, slots=True)
class Passphrase:
    """Implements `Lock` and `Unlock`."""

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.text) < SHORTEST_PASSPHRASE:
            raise BadInput(f"The passphrase is too short; give {SHORTEST_PASSPHRASE} characters or more.")

    def new_key(self) -> tuple[bytes, Mapping[str, Any]]:
        salt = os.urandom(16)
        seal = {"kind": "scrypt", "n": _SCRYPT_N, "r": 8, "p": 1, "salt": _encode(salt)}
        return self._derive(salt, n=_SCRYPT_N), seal

    def find_key(self, seal: Mapping[str, Any]) -> bytes:
        if seal.get("kind") != "scrypt":
            raise BadInput("The backup is locked for a recipient's key; give that key with --identity.")
        n, salt = seal.get("n"), _decode(seal.get("salt"))
        if not isinstance(n, int) or not 2 <= n <= _MOST_N or n & (n - 1) or (seal.get("r"), seal.get("p")) != (8, 1):
            raise BadInput("The backup's header asks for a derivation that this version doesn't do.")
        return self._derive(salt, n=n)

    def _derive(self, salt: bytes, *, n: int) -> bytes:
        return Scrypt(salt=salt, length=32, n=n, r=8, p=1).derive(self.text.encode())


class Recipient:
    """Implements `Lock`: an X25519 public key, PEM."""

    def __init__(self, pem: bytes) -> None:
        refusal = BadInput("--recipient: the file holds no X25519 public key (PEM).", subject="recipient")
        try:
            key = load_pem_public_key(pem)
        except ValueError:
            raise refusal from None
        if not isinstance(key, X25519PublicKey):
            raise refusal
        self._key = key

    def new_key(self) -> tuple[bytes, Mapping[str, Any]]:
        key = os.urandom(32)
        return key, {"kind": "hpke-x25519", "key": _encode(_SUITE.encrypt(key, self._key, info=_INFO))}


class Identity:
    """Implements `Unlock`: the recipient's private key, PEM."""

    def __init__(self, pem: bytes) -> None:
        refusal = BadInput("--identity: the file holds no X25519 private key (PEM, unencrypted).", subject="identity")
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            raise refusal from None
        if not isinstance(key, X25519PrivateKey):
            raise refusal
        self._key = key

    def find_key(self, seal: Mapping[str, Any]) -> bytes:
        if seal.get("kind") != "hpke-x25519":
            raise BadInput("The backup is locked by a passphrase, not for a recipient's key.")
        try:
            return _SUITE.decrypt(_decode(seal.get("key")), self._key, info=_INFO)
        except (InvalidTag, ValueError):
            raise BadInput("The backup is locked for another recipient's key.", subject="identity") from None


class SealedWriter:
    """Writes one file; without `close` it is no whole one. header: anything as JSON, but `seal`."""

    def __init__(self, file: BinaryIO, header: Mapping[str, Any], lock: Lock) -> None:
        key, seal = lock.new_key()
        beginning = MAGIC + json.dumps({**header, "seal": seal}, separators=(",", ":")).encode() + b"\n"
        file.write(beginning)
        self._file = file
        self._cipher = AESGCM(key)
        self._bound_to = sha256(beginning).digest()
        self._number = 0
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) > CHUNK:  # the last chunk is written by `close`, so one is always kept back
            self._put(bytes(self._waiting[:CHUNK]), is_last=False)
            del self._waiting[:CHUNK]

    def close(self) -> None:
        self._put(bytes(self._waiting), is_last=True)

    def _put(self, chunk: bytes, *, is_last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, is_last=is_last), chunk, self._bound_to)
        self._file.write(len(sealed).to_bytes(4, "big") + sealed)
        self._number += 1


def read_header(file: BinaryIO) -> tuple[Mapping[str, Any], bytes]:
    """Return the header of a file, and all its bytes so far, for `read_chunks`.

    Raises:
        BadInput: it is no backup. Nothing that the header says is sure before the first chunk was read.
    """
    magic = file.read(len(MAGIC))
    line = file.readline(_LONGEST_HEADER) if magic == MAGIC else b""
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not line.endswith(b"\n") or not isinstance(header, dict) or not isinstance(header.get("seal"), dict):
        raise BadInput("The file is no backup of Certorbit's, or its beginning is damaged.")
    return header, magic + line


def read_chunks(file: BinaryIO, beginning: bytes, *, key: bytes) -> Iterator[bytes]:
    """Yield what was written, chunk by chunk; each one is checked before it is handed out.

    Raises:
        BadInput: another key, or the file is damaged or cut off.
    """
    cipher, bound_to = AESGCM(key), sha256(beginning).digest()
    number, is_last = 0, False
    while not is_last:
        length = int.from_bytes(file.read(4), "big")
        sealed = file.read(length) if _TAG <= length <= CHUNK + _TAG else b""
        if not sealed or len(sealed) < length:
            raise BadInput("The backup is cut off or damaged.")
        for is_last in (False, True):
            try:
                chunk = cipher.decrypt(_nonce(number, is_last=is_last), sealed, bound_to)
                break
            except InvalidTag:
                continue
        else:
            what = "the passphrase or key is another one, or the file" if number == 0 else "the file"
            raise BadInput(f"The backup can't be opened: {what} is damaged.")
        yield chunk
        number += 1
    if file.read(1):
        raise BadInput("The backup is damaged: there is something behind its end.")


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("The backup's header is damaged.") from None
