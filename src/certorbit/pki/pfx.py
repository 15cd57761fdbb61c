"""PKCS#12 stores (RFC 7292): of what we hold, and those that people give us."""

import base64
import json
import os
import re
import subprocess
import sys
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PBES,
    PKCS12Certificate,
    serialize_key_and_certificates,
)
from cryptography.x509 import Certificate

from certorbit.errors import BadInput, BadMaterial, Broken
from certorbit.model.material import PrivateKeyPEM
from certorbit.pki.pem import read_certificates
from certorbit.pki.private_key import load_own_key

ITERATIONS = 20_000  # cryptography's own default; 7 ms per store
MOST_BYTES = 1024 * 1024  # of a store that we read; one with a long chain has 20 KiB
# Stores of Firefox, the slowest that are made, hash a password 1,800,000 times: half a second here.
CPU_SECONDS = 5
_WALL_SECONDS = 30.0  # on a busy machine
# PFX ::= SEQUENCE { version INTEGER 3, ... } in BER, whose length may be left open (0x80).
_START = re.compile(rb"\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)\x02\x01\x03", re.DOTALL)


def make_pfx(chain_pem: str, *, key: PrivateKeyPEM | None, name: str, password: bytes | None) -> bytes:
    """Return a PKCS#12 store with the whole chain.

    Args:
        chain_pem: leaf first, one of our versions.
        key: the leaf's; None makes a store of certificates only.
        name: the friendly name of key and leaf.
        password: AES-256-CBC with PBES2 and an HMAC with SHA-256; None or empty: not encrypted at all.

    Raises:
        BadMaterial: the chain can't be read.
        BadInput: the password is not UTF-8; PKCS#12 writes it as text (RFC 7292 appendix B.1).
    """
    if password and not _is_utf8(password):
        raise BadInput("The password of the PKCS#12 store is not UTF-8 text. Choose another one.", subject="password")
    leaf, *issuers = read_certificates(chain_pem, subject="chain")
    encryption = _encrypt(password) if password else NoEncryption()
    friendly = name.encode()
    if key is None:
        bundle: list[PKCS12Certificate | Certificate] = [PKCS12Certificate(leaf, friendly), *issuers]
        return serialize_key_and_certificates(None, None, None, bundle, encryption)
    return serialize_key_and_certificates(friendly, load_own_key(key), leaf, issuers, encryption)


def read_pfx(
    store: bytes, password: bytes | None, *, cpu_seconds: int = CPU_SECONDS
) -> tuple[PrivateKeyPEM | None, str]:
    """Return the key and the certificates of somebody's PKCS#12 store.

    Takes a fifth of a second, and more CPU only if the store wants it: call it in a thread. See `pki.pfx_child`.

    Args:
        store: at most 1 MiB.
        password: UTF-8; None or empty: none.
        cpu_seconds: the most that opening it may take.

    Returns:
        The key as PKCS#8 PEM, of any kind and size (of several the first one; None: there is none), and all
        certificates as PEM: the key's own first, its chain in order, then those that are no part of it. "": none.

    Raises:
        BadMaterial: too big, no PKCS#12 store, a wrong password, damaged, empty, or made to be slow.
        Broken: the process that opens it does not work.
    """
    if len(store) > MOST_BYTES:
        raise BadMaterial(
            f"fileName: a PKCS#12 store of more than {MOST_BYTES // 1024} KiB is not opened.", subject="fileName"
        )
    if not _START.match(store):
        advice = " It is PEM text, which needs no extraction." if b"-----BEGIN " in store[:4096] else ""
        raise BadMaterial(f"fileName: this is not a PKCS#12 store (.pfx, .p12).{advice}", subject="fileName")
    answer = _open_apart(
        {
            "store": base64.b64encode(store).decode("ascii"),
            "password": None if password is None else base64.b64encode(password).decode("ascii"),
            "cpu_seconds": cpu_seconds,
        }
    )
    if "refused" in answer:
        raise BadMaterial(answer["refused"], subject=answer["subject"])
    return None if answer["key"] is None else PrivateKeyPEM(answer["key"]), answer["chain"]


def _open_apart(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of `pki.pfx_child`. It gets our import path and none of our other environment."""
    try:
        run = subprocess.run(  # our own module by our own interpreter; the input goes to its stdin
            [sys.executable, "-P", "-m", "certorbit.pki.pfx_child"],
            input=json.dumps(request).encode("ascii"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=_WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:  # no cause: it holds the request, which has the password
        raise _too_costly() from None
    if run.returncode < 0:  # a signal: the kernel's for one that uses up its CPU time, or the end of a parser
        raise _too_costly()
    if run.returncode != 0:
        raise Broken(f"The process that opens PKCS#12 stores ended with {run.returncode}.")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def _too_costly() -> BadMaterial:
    return BadMaterial(
        "fileName: opening the PKCS#12 store takes too much time or memory; its password is to be hashed too often, or"
        " it is damaged. Export it again with fewer iterations.",
        subject="fileName",
    )


def _is_utf8(password: bytes) -> bool:
    try:
        password.decode()
    except UnicodeDecodeError:
        return False
    return True


def _encrypt(password: bytes) -> KeySerializationEncryption:
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ITERATIONS)
        .key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(SHA256())
        .build(password)
    )
