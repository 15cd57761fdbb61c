"""Self-signed certificates: every configuration's built-in one (contract.md, `placeholder`), and the service's first.

Neither is ever trusted by anybody but a client that compares its fingerprint.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certorbit.model.identifiers import Identifier, IdentifierType
from certorbit.model.material import KeyType, Material
from certorbit.pki.csr import make_san
from certorbit.pki.pem import write_certificates
from certorbit.pki.private_key import load_own_key, make_key
from certorbit.pki.read import read_facts

_LIFE = timedelta(days=3650)
_NAME = Identifier(IdentifierType.DNS, "placeholder.invalid")  # RFC 2606 §2: never a real host


def make_placeholder(*, now: datetime) -> Material:
    """Return a self-signed certificate for a name that can't exist, with a new ECDSA P-256 key. now: aware UTC."""
    return make_self_signed([_NAME], common_name="placeholder", now=now)


def make_self_signed(names: Sequence[Identifier], *, common_name: str, now: datetime) -> Material:
    """Return a self-signed server certificate for ten years, with a new ECDSA P-256 key. now: aware UTC."""
    key = make_key(KeyType.ECDSA_P256)
    private_key = load_own_key(key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = now.replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(make_san(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private_key, SHA256())
    )
    return Material(chain_pem=write_certificates([certificate]), key=key, facts=read_facts(certificate))
