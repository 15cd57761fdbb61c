"""Looks for pieces of secrets in anything: private keys in every form that they may leak in, and API keys."""

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

TEXT_STEP = 20  # of two windows of 40 characters no place is left between: each holds a whole piece
BYTES_STEP = 12
MARKERS = (b"PRIVATE KEY-----",)


class Needles:
    """Pieces of secrets, each with the name of what it is a piece of; no message repeats the piece."""

    def __init__(self) -> None:
        self._pieces: dict[bytes, str] = {}

    def add_text(self, name: str, secret: str) -> None:
        """Look for an API key or a password, as it is and in base64 at every offset."""
        content = secret.encode()
        self._pieces[content] = name
        for padding in range(3):
            encoded = base64.b64encode(b"\0" * padding + content)
            self._pieces[encoded[4 : len(encoded) - 4]] = f"{name} in base64"

    def add_bytes(self, name: str, secret: bytes) -> None:
        """Look for a symmetric key, as it is, in hex and in base64."""
        self._pieces |= {secret: name, secret.hex().encode(): name, base64.b64encode(secret).rstrip(b"="): name}

    def add_key(self, name: str, pem: str) -> None:
        """Look for the private numbers of a key: as they are, in hex, and where base64 of PKCS#8, PKCS#1 or SEC1 has them."""
        key = load_pem_private_key(pem.encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        forms = [
            key.private_bytes(Encoding.DER, form, NoEncryption())
            for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)
        ]
        for number in _private_numbers(key):
            for piece in _cut(number, BYTES_STEP):
                self._pieces |= {
                    piece: name,
                    piece.hex().encode(): f"{name} in hex",
                    piece.hex().upper().encode(): name,
                }
            for form in forms:
                start = form.index(number)
                text = base64.b64encode(form)[-(-start * 4 // 3) : (start + len(number)) * 4 // 3]
                self._pieces |= dict.fromkeys(_cut(text, TEXT_STEP), f"{name} in base64")

    def find_in(self, content: bytes) -> list[str]:
        """Return the names of what is there, with the place."""
        return [f"{name} at {content.index(piece)}" for piece, name in self._pieces.items() if piece in content]

    def __len__(self) -> int:
        return len(self._pieces)


def find_markers(content: bytes) -> list[str]:
    """Return a word for each marker line of a private key."""
    return [f"a marker line at {content.index(marker)}" for marker in MARKERS if marker in content]


def read_folder(folder: Path, *, but: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file below the folder, but for these."""
    left_out = {path.resolve() for path in but}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.resolve() not in left_out:
            yield str(path.relative_to(folder)), path.read_bytes()


def _private_numbers(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> list[bytes]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return [key.private_numbers().private_value.to_bytes((key.curve.key_size + 7) // 8, "big")]
    numbers = key.private_numbers()
    found = (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    return [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in found]


def _cut(content: bytes, step: int) -> list[bytes]:
    return [content[start : start + step] for start in range(0, len(content) - step + 1, step)]
