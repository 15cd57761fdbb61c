"""Certificates to upload: each its own leaf and key under one issuing certificate, about 3 KB as real ones."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Upload:
    entry: str
    body: dict[str, object]


def make_uploads(count: int) -> list[Upload]:
    """Return `count` uploads, entries `e0000` and on."""
    issuing_key = ec.generate_private_key(ec.SECP256R1())
    issuing = _certify("Bench issuing CA", issuing_key, issuer="Bench root", signer=issuing_key, is_ca=True)
    return [_make_upload(number, issuing, issuing_key) for number in range(count)]


def _make_upload(number: int, issuing: x509.Certificate, issuing_key: ec.EllipticCurvePrivateKey) -> Upload:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _certify(f"e{number:04}.bench.test", key, issuer="Bench issuing CA", signer=issuing_key, is_ca=False)
    chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (leaf, issuing))
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Upload(f"e{number:04}", {"cert_body": chain.decode(), "private_key": key_pem.decode(), "side": "server"})


def _certify(
    name: str, key: ec.EllipticCurvePrivateKey, *, issuer: str, signer: ec.EllipticCurvePrivateKey, is_ca: bool
) -> x509.Certificate:
    now = datetime.now(tz=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(signer, hashes.SHA256())
