"""What may not be uploaded, and what the refusal says (contract.md, Certificates, 'Upload')."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7

from certorbit.errors import BadMaterial
from certorbit.model.entry import Side
from certorbit.pki.pem import MOST_BYTES
from certorbit.pki.upload import MOST_SERVED, read_upload
from make import Chain, make_certificate, make_chain, make_csr, make_key, pem, write_key, write_public_key

EC = make_chain()
OTHER = make_chain(names=["other.example.com"], key_index=1)
FULL = EC.leaf_pem + EC.issuers_pem


@cache
def rsa_chain() -> Chain:
    return make_chain(key="rsa-2048")


def armour(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


@dataclass(frozen=True)
class Input:
    body: str
    key: str = ""
    side: Side = Side.SERVER


def der_as_text() -> str:
    return EC.leaf.public_bytes(Encoding.DER).decode("latin-1").replace("\0", "\1")


def mixed_up_key() -> str:
    """A SEC1 key whose private half is EC's and whose public half is OTHER's."""
    point = [c.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for c in (EC, OTHER)]
    der = base64.b64decode("".join(EC.traditional_key_pem.splitlines()[1:-1]))
    return armour("EC PRIVATE KEY", der.replace(point[0], point[1]))


BODY, KEY = "cert_body", "private_key"
NO_CERTIFICATE = (
    "cert_body: no certificate found. Give PEM text, with the lines -----BEGIN CERTIFICATE----- and"
    " -----END CERTIFICATE-----."
)
NO_KEY = (
    "private_key: no private key found. Give PEM text, with the lines -----BEGIN PRIVATE KEY----- and"
    " -----END PRIVATE KEY-----."
)
ENCRYPTED = "private_key: the private key is encrypted. Give it without a password: openssl pkey -in key.pem"
UNREADABLE = (
    "private_key: the private key can't be read: damaged, inconsistent or of an unknown kind. Give PKCS#8, PKCS#1 or"
    " SEC1 as PEM, with a named curve."
)
NOT_SERVED = "can't be served; use RSA with 2048 bits or more, or the curves P-256, P-384, P-521."
CUT_OFF = "has no matching end line; the text was cut off or damaged. Give the whole file."
NOT_BASE64 = "is not base64; it was cut off or damaged. Give the whole file."
MISMATCH = (
    "private_key: it does not fit the certificate 'CN=www.example.com'. Give the key that this certificate was"
    " requested with."
)
TOO_BIG = "more than 256 KiB. Leave out what doesn't belong to this certificate."
BINARY = "holds NUL bytes, so it is binary (DER, PKCS#12) or UTF-16. Give PEM text."
REQUEST = "is a signing request, not a certificate. Give what the CA sent back."
BUNDLE_KEY = "a CA bundle is kept without a key. Leave the private key out; it should stay with the CA."

REFUSED: dict[str, tuple[Callable[[], Input], str, str]] = {
    "refused/empty": (lambda: Input("", EC.key_pem), BODY, NO_CERTIFICATE),
    "refused/blank": (lambda: Input(" \r\n ", EC.key_pem), BODY, NO_CERTIFICATE),
    "refused/prose": (lambda: Input("see attachment", EC.key_pem), BODY, NO_CERTIFICATE),
    "refused/base64 without its marker lines": (
        lambda: Input(EC.leaf_pem.replace("-----", ""), EC.key_pem),
        BODY,
        NO_CERTIFICATE,
    ),
    "refused/DER as text": (lambda: Input(der_as_text(), EC.key_pem), BODY, NO_CERTIFICATE),
    "refused/only a key in cert_body": (lambda: Input(EC.key_pem), BODY, NO_CERTIFICATE),
    "refused/UTF-16": (lambda: Input("\0".join(EC.leaf_pem), EC.key_pem), BODY, f"cert_body: {BINARY}"),
    "refused/NUL in the key": (lambda: Input(EC.leaf_pem, EC.key_pem + "\0"), KEY, f"private_key: {BINARY}"),
    "refused/the end is cut off": (
        lambda: Input(EC.chain_pem[:-40], EC.key_pem),
        BODY,
        f"cert_body: block 2 (CERTIFICATE) {CUT_OFF}",
    ),
    "refused/an end line of another block": (
        lambda: Input(EC.leaf_pem.replace("END CERTIFICATE", "END KEY"), EC.key_pem),
        BODY,
        f"cert_body: block 1 (CERTIFICATE) {CUT_OFF}",
    ),
    "refused/a block within a block": (
        lambda: Input("-----BEGIN CERTIFICATE-----\n" + EC.leaf_pem, EC.key_pem),
        BODY,
        f"cert_body: block 1 (CERTIFICATE) {CUT_OFF}",
    ),
    "refused/truncated base64": (
        lambda: Input(EC.leaf_pem.replace("\n-----END", "A\n-----END"), EC.key_pem),
        BODY,
        f"cert_body: the body of block 1 (CERTIFICATE) {NOT_BASE64}",
    ),
    "refused/escaped line ends": (
        lambda: Input(EC.leaf_pem.replace("\n", "\\n"), EC.key_pem),
        BODY,
        f"cert_body: the body of block 1 (CERTIFICATE) {NOT_BASE64}",
    ),
    "refused/a line is missing": (
        lambda: Input("\n".join(EC.leaf_pem.split("\n")[:3] + EC.leaf_pem.split("\n")[4:]), EC.key_pem),
        BODY,
        "cert_body: block 1 is not a readable X.509 certificate. Export it again.",
    ),
    "refused/garbage DER": (
        lambda: Input(EC.leaf_pem + armour("CERTIFICATE", b"garbage"), EC.key_pem),
        BODY,
        "cert_body: block 2 is not a readable X.509 certificate. Export it again.",
    ),
    "refused/an empty block": (
        lambda: Input(armour("CERTIFICATE", b""), EC.key_pem),
        BODY,
        "cert_body: block 1 is not a readable X.509 certificate. Export it again.",
    ),
    "refused/bytes behind the certificate": (
        lambda: Input(armour("CERTIFICATE", EC.leaf.public_bytes(Encoding.DER) + b"\0"), EC.key_pem),
        BODY,
        "cert_body: block 1 is not a readable X.509 certificate. Export it again.",
    ),
    "refused/a signing request": (
        lambda: Input(armour("CERTIFICATE REQUEST", make_csr(EC.key)), EC.key_pem),
        BODY,
        f"cert_body: block 1 (CERTIFICATE REQUEST) {REQUEST}",
    ),
    "refused/a signing request beside the certificate": (
        lambda: Input(EC.leaf_pem + armour("NEW CERTIFICATE REQUEST", make_csr(EC.key)), EC.key_pem),
        BODY,
        f"cert_body: block 2 (NEW CERTIFICATE REQUEST) {REQUEST}",
    ),
    "refused/PKCS#7": (
        lambda: Input(pkcs7.serialize_certificates([EC.leaf], Encoding.PEM).decode(), EC.key_pem),
        BODY,
        "cert_body: block 1 (PKCS7) is a PKCS#7 store. Unpack it: openssl pkcs7 -print_certs -in file.p7b.",
    ),
    "refused/a CRL among CAs": (
        lambda: Input(EC.root_pem + armour("X509 CRL", b"\x30\x00"), side=Side.CLIENT_CA),
        BODY,
        "cert_body: block 2 (X509 CRL) is a revocation list. Give it in crl.",
    ),
    "refused/an unknown block": (
        lambda: Input(EC.leaf_pem + armour("AGE ENCRYPTED FILE", b"x"), EC.key_pem),
        BODY,
        "cert_body: block 2 (AGE ENCRYPTED FILE) is of no use here. Leave it out.",
    ),
    "refused/OpenSSL's trusted form": (
        lambda: Input(armour("TRUSTED CERTIFICATE", b"x"), EC.key_pem),
        BODY,
        "cert_body: block 1 (TRUSTED CERTIFICATE) is in OpenSSL's own form. Convert it: openssl x509 -in file.pem.",
    ),
    "refused/cert_body over 256 KiB": (
        lambda: Input(EC.leaf_pem + " " * MOST_BYTES, EC.key_pem),
        BODY,
        f"cert_body: {TOO_BIG}",
    ),
    "refused/cert_body over 256 KiB in bytes only": (
        lambda: Input(EC.leaf_pem + "€" * (MOST_BYTES // 3), EC.key_pem),
        BODY,
        f"cert_body: {TOO_BIG}",
    ),
    "refused/private_key over 256 KiB": (
        lambda: Input(EC.leaf_pem, EC.key_pem + "x" * MOST_BYTES),
        KEY,
        f"private_key: {TOO_BIG}",
    ),
    "refused/33 certificates": (
        lambda: Input(
            pem(*(make_certificate(key=EC.key, subject=f"CN={n}") for n in range(MOST_SERVED + 1))), EC.key_pem
        ),
        BODY,
        "cert_body: 33 certificates; a chain has at most 32. Give the certificate and its issuers only.",
    ),
    "refused/no key": (
        lambda: Input(EC.chain_pem),
        KEY,
        "private_key: it is missing; a certificate that serves needs its key.",
    ),
    "refused/no key for backend mTLS": (
        lambda: Input(EC.chain_pem, " ", Side.SERVER_TO_BACKEND_MTLS),
        KEY,
        "private_key: it is missing; a certificate that serves needs its key.",
    ),
    "refused/prose as key": (lambda: Input(EC.leaf_pem, "secret"), KEY, NO_KEY),
    "refused/a certificate as key": (lambda: Input(EC.leaf_pem, EC.leaf_pem), KEY, NO_KEY),
    "refused/a public key as key": (
        lambda: Input(EC.leaf_pem, write_public_key(EC.key)),
        KEY,
        "private_key: block 1 (PUBLIC KEY) is a public key. Give certificates and a private key.",
    ),
    "refused/key of another certificate": (lambda: Input(EC.chain_pem, OTHER.key_pem), KEY, MISMATCH),
    "refused/key of another kind": (lambda: Input(EC.chain_pem, rsa_chain().key_pem), KEY, MISMATCH),
    "refused/mixed-up key": (lambda: Input(EC.leaf_pem, mixed_up_key()), KEY, UNREADABLE),
    "refused/key of the issuer": (
        lambda: Input(FULL, write_key(EC.issuer_keys[0])),
        KEY,
        (
            "private_key: it belongs to 'C=US, O=Example Trust, CN=Example Issuing 1', the issuer of 'CN=www.example.com'."
            " Give the key of the latter."
        ),
    ),
    "refused/two keys": (
        lambda: Input(EC.leaf_pem, EC.key_pem + OTHER.key_pem),
        KEY,
        "private_key: 2 private keys; give the one that fits.",
    ),
    "refused/another key in cert_body": (
        lambda: Input(EC.leaf_pem + OTHER.key_pem, EC.key_pem),
        BODY,
        "cert_body: it holds another private key than private_key. Give the one that fits.",
    ),
    "refused/RSA 1024": (
        lambda: Input(EC.leaf_pem, write_key(make_key("rsa-1024"))),
        KEY,
        "private_key: an RSA key of 1024 bits is too short; at least 2048 are needed.",
    ),
    "refused/RSA 1024 in cert_body": (
        lambda: Input(EC.leaf_pem + write_key(make_key("rsa-1024"))),
        BODY,
        "cert_body: an RSA key of 1024 bits is too short; at least 2048 are needed.",
    ),
    "refused/P-224": (
        lambda: Input(EC.leaf_pem, write_key(make_key("ecdsa-p224"))),
        KEY,
        f"private_key: a key of type ecdsa-secp224r1 {NOT_SERVED}",
    ),
    "refused/secp256k1": (
        lambda: Input(EC.leaf_pem, write_key(make_key("ecdsa-secp256k1"))),
        KEY,
        f"private_key: a key of type ecdsa-secp256k1 {NOT_SERVED}",
    ),
    "refused/Ed25519": (
        lambda: Input(EC.leaf_pem, write_key(make_key("ed25519"))),
        KEY,
        f"private_key: a key of type ed25519 {NOT_SERVED}",
    ),
    "refused/DSA": (
        lambda: Input(EC.leaf_pem, write_key(make_key("dsa-2048"))),
        KEY,
        f"private_key: a key of type dsa-2048 {NOT_SERVED}",
    ),
    "refused/encrypted PKCS#8": (
        lambda: Input(EC.leaf_pem, write_key(EC.key, password=b"secret")),
        KEY,
        ENCRYPTED,
    ),
    "refused/encrypted PKCS#8 under the plain label": (
        lambda: Input(EC.leaf_pem, write_key(EC.key, password=b"secret").replace("ENCRYPTED ", "")),
        KEY,
        ENCRYPTED,
    ),
    "refused/encrypted PKCS#1 (Proc-Type)": (
        lambda: Input(rsa_chain().leaf_pem, write_key(rsa_chain().key, "traditional", password=b"secret")),
        KEY,
        ENCRYPTED,
    ),
    "refused/encrypted SEC1 (Proc-Type)": (
        lambda: Input(EC.leaf_pem, write_key(EC.key, "traditional", password=b"secret")),
        KEY,
        ENCRYPTED,
    ),
    "refused/OpenSSH key": (
        lambda: Input(EC.leaf_pem, armour("OPENSSH PRIVATE KEY", b"openssh-key-v1")),
        KEY,
        "private_key: the private key is in OpenSSH's own form. Convert it: ssh-keygen -p -m PEM -f key.pem",
    ),
    "refused/garbage key": (lambda: Input(EC.leaf_pem, armour("PRIVATE KEY", b"garbage")), KEY, UNREADABLE),
    "refused/cut off key": (
        lambda: Input(EC.leaf_pem, EC.key_pem[:-30]),
        KEY,
        f"private_key: block 1 (PRIVATE KEY) {CUT_OFF}",
    ),
    "refused/clientCA with a leaf": (
        lambda: Input(EC.root_pem + EC.leaf_pem, side=Side.CLIENT_CA),
        BODY,
        (
            "cert_body: 'CN=www.example.com' is not a CA certificate (CA:TRUE is missing). Give the certificates of the"
            " CAs alone."
        ),
    ),
    "refused/backendCA without BasicConstraints": (
        lambda: Input(pem(make_certificate(key=make_key(), subject="CN=Old", is_ca=None)), side=Side.BACKEND_CA),
        BODY,
        "cert_body: 'CN=Old' is not a CA certificate (CA:TRUE is missing). Give the certificates of the CAs alone.",
    ),
    "refused/clientCA without a name that isn't a CA": (
        lambda: Input(pem(make_certificate(key=make_key(), names=["a.example"], serial=255)), side=Side.CLIENT_CA),
        BODY,
        (
            "cert_body: with serial ff is not a CA certificate (CA:TRUE is missing). Give the certificates of the CAs"
            " alone."
        ),
    ),
    "refused/clientCA with RSA 1024": (
        lambda: Input(
            pem(make_certificate(key=make_key("rsa-1024"), subject="CN=Weak", is_ca=True)), side=Side.CLIENT_CA
        ),
        BODY,
        "cert_body: 'CN=Weak': an RSA key of 1024 bits is too short; at least 2048 are needed.",
    ),
    "refused/clientCA with its key": (
        lambda: Input(EC.root_pem, write_key(EC.issuer_keys[1]), Side.CLIENT_CA),
        KEY,
        f"private_key: {BUNDLE_KEY}",
    ),
    "refused/clientCA with its key in cert_body": (
        lambda: Input(EC.root_pem + write_key(EC.issuer_keys[1]), side=Side.CLIENT_CA),
        BODY,
        f"cert_body: {BUNDLE_KEY}",
    ),
    "refused/clientCA, empty": (lambda: Input("", side=Side.CLIENT_CA), BODY, NO_CERTIFICATE),
}


@pytest.mark.parametrize(("upload", "subject", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_says_what_is_wrong_and_what_to_do(upload: Callable[[], Input], subject: str, message: str) -> None:
    given = upload()
    with pytest.raises(BadMaterial) as refusal:
        read_upload(given.body, given.key, side=given.side)
    assert (refusal.value.message, refusal.value.subject) == (message, subject)


def test_no_refusal_shows_key_material() -> None:
    for upload, _, _ in REFUSED.values():
        given = upload()
        with pytest.raises(BadMaterial) as refusal:
            read_upload(given.body, given.key, side=given.side)
        lines = [line for line in given.key.splitlines() if len(line) > 30 and not line.startswith("-----")]
        shown = repr(refusal.value) + str(refusal.value.__cause__) + repr(refusal.value.__cause__)
        assert not [line for line in lines if line in shown]
