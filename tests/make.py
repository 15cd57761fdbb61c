"""Builders of keys, chains and certificates for all tests: `make_chain(names=["www.example.com"]).leaf_pem`.

Keys are made once per process and type (`make_key`), for RSA keys take long; `index` gives another key of that type.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from certorbit.model.material import PrivateKeyPEM

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PrivateKey = Any  # rsa, ec, dsa or ed25519: the tests use what they have in common
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "p224": ec.SECP224R1,
    "p256": ec.SECP256R1,
    "p384": ec.SECP384R1,
    "p521": ec.SECP521R1,
    "secp256k1": ec.SECP256K1,
}


def make_key(key: str = "ecdsa-p256", index: int = 0) -> PrivateKey:
    """Return a key: `rsa-2048`, `ecdsa-p256`, `ecdsa-secp256k1`, `ed25519`, `dsa-2048`; the same one each time."""
    return _make_key(key, index)


@cache
def _make_key(key: str, index: int) -> PrivateKey:
    kind, _, size = key.partition("-")
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=int(size))
    if kind == "ecdsa":
        return ec.generate_private_key(_CURVES[size]())
    if kind == "dsa":
        return dsa.generate_private_key(key_size=int(size))
    return ed25519.Ed25519PrivateKey.generate()


def write_key(key: PrivateKey, form: str = "pkcs8", *, password: bytes | None = None) -> str:
    """Return the key as PEM. form: `pkcs8`, or `traditional` (PKCS#1 for RSA, SEC1 for ECDSA)."""
    encryption: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    layout = PrivateFormat.PKCS8 if form == "pkcs8" else PrivateFormat.TraditionalOpenSSL
    text: bytes = key.private_bytes(Encoding.PEM, layout, encryption)
    return text.decode()


def write_public_key(key: PrivateKey) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def pem(*certificates: x509.Certificate) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def name(text: str) -> x509.Name:
    """Return a name from RFC 4514 parts in certificate order: `C=US,O=Example,CN=x`."""
    oids = {"C": NameOID.COUNTRY_NAME, "O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
    parts = [part.split("=", 1) for part in text.split(",") if part]
    return x509.Name([x509.NameAttribute(oids[short], value) for short, value in parts])


def general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def make_certificate(
    *,
    key: PrivateKey,
    subject: str | x509.Name = "",
    names: Sequence[str] = (),
    issuer: x509.Certificate | None = None,
    issuer_key: PrivateKey | None = None,
    is_ca: bool | None = False,
    start: datetime | None = None,
    days: float = 90,
    now: datetime = NOW,
    serial: int | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    """Return a certificate: self-signed unless there is an issuer. is_ca None leaves BasicConstraints out.

    start: of its validity; else an hour before `now`. days: from `now` (negative: it has expired).
    """
    subject_name = subject if isinstance(subject, x509.Name) else name(subject)
    end = now + timedelta(days=days)
    begin = start or min(now, end) - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer.subject if issuer else subject_name)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if is_ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([general_name(n) for n in names]), critical=not list(subject_name)
        )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signing_key = issuer_key if issuer_key is not None else key
    return builder.sign(signing_key, None if isinstance(signing_key, ed25519.Ed25519PrivateKey) else SHA256())


@dataclass(frozen=True)
class Chain:
    """A leaf with its issuers up to the root, and the keys of all."""

    leaf: x509.Certificate
    issuers: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    issuer_keys: tuple[PrivateKey, ...] = field(repr=False)

    @property
    def root(self) -> x509.Certificate:
        return self.issuers[-1] if self.issuers else self.leaf

    @property
    def leaf_pem(self) -> str:
        return pem(self.leaf)

    @property
    def issuers_pem(self) -> str:
        """All issuers, the root last."""
        return pem(*self.issuers)

    @property
    def intermediates_pem(self) -> str:
        """The issuers without the root: what a server sends after its leaf."""
        return pem(*self.issuers[:-1])

    @property
    def root_pem(self) -> str:
        return pem(self.root)

    @property
    def chain_pem(self) -> str:
        """Leaf and intermediates: what a CA answers."""
        return self.leaf_pem + self.intermediates_pem

    @property
    def key_pem(self) -> str:
        """PKCS#8."""
        return write_key(self.key)

    @property
    def traditional_key_pem(self) -> str:
        """PKCS#1 for RSA, SEC1 for ECDSA."""
        return write_key(self.key, "traditional")

    @property
    def private_key(self) -> PrivateKeyPEM:
        return PrivateKeyPEM(self.key_pem)


def make_authorities(depth: int, *, now: datetime = NOW) -> tuple[x509.Certificate, ...]:
    """Return the CA certificates above the leaf of a chain of `depth`, the root last; the same ones each time."""
    return _make_authorities(depth, now)


@cache
def _make_authorities(depth: int, now: datetime) -> tuple[x509.Certificate, ...]:
    authorities: list[x509.Certificate] = []  # the root first
    for level in range(depth - 1, 0, -1):
        role = "Root" if level == depth - 1 else f"Issuing {level}"
        authorities.append(
            make_certificate(
                key=_authority_key(level),
                subject=f"C=US,O=Example Trust,CN=Example {role}",
                issuer=authorities[-1] if authorities else None,
                issuer_key=_authority_key(level + 1) if authorities else None,
                is_ca=True,
                days=3650,
                now=now,
            )
        )
    return tuple(reversed(authorities))


def _authority_key(level: int) -> PrivateKey:
    return make_key("ecdsa-p256", 1000 + level)


def make_chain(
    *,
    names: Sequence[str] = ("www.example.com",),
    days: float = 90,
    key: str = "ecdsa-p256",
    depth: int = 3,
    subject: str | None = None,
    is_ca: bool = False,
    now: datetime = NOW,
    key_index: int = 0,
    extensions: Sequence[x509.ExtensionType] = (),
) -> Chain:
    """Return a chain of `depth` certificates: 1 is a self-signed leaf, 2 leaf and root, 3 one intermediate between.

    Args:
        names: DNS names and IP addresses of the leaf.
        days: from `now` to the leaf's end; negative: expired.
        subject: of the leaf, `CN=<first name>` by default.
    """
    leaf_key = make_key(key, key_index)
    keys = [_authority_key(level) for level in range(1, depth)]
    authorities = make_authorities(depth, now=now)
    leaf = make_certificate(
        key=leaf_key,
        subject=f"CN={names[0]}" if subject is None else subject,
        names=names,
        issuer=authorities[0] if authorities else None,
        issuer_key=keys[0] if authorities else None,
        is_ca=is_ca,
        days=days,
        now=now,
        extensions=extensions,
    )
    return Chain(leaf=leaf, issuers=authorities, key=leaf_key, issuer_keys=tuple(keys))


def make_csr(key: PrivateKey, names: Sequence[x509.GeneralName] = (), *, subject: str = "") -> bytes:
    """Return a request (DER) of any kind, good or bad; `pki.csr` makes ours."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def revoke(
    serial: int,
    *,
    reason: x509.ReasonFlags | None = None,
    at: datetime = NOW - timedelta(days=1),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> x509.RevokedCertificate:
    """Return an entry of a CRL. extensions: each with whether it is critical."""
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
    if reason is not None:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.build()


def make_crl(
    issuer: x509.Certificate,
    key: PrivateKey,
    *,
    revoked: Sequence[x509.RevokedCertificate | int] = (),
    number: int | None = 7,
    start: datetime = NOW - timedelta(hours=1),
    end: datetime = NOW + timedelta(days=7),
    authority_key_id: bytes | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """Return a CRL as DER. revoked: entries, or serials revoked for no reason. extensions: see `revoke`."""
    entries = [entry if isinstance(entry, x509.RevokedCertificate) else revoke(entry) for entry in revoked]
    builder = x509.CertificateRevocationListBuilder(issuer_name=issuer.subject, revoked_certificates=entries)
    builder = builder.last_update(start).next_update(end)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if authority_key_id is not None:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(authority_key_id, None, None), critical=False)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def distribution_points(*points: Sequence[str]) -> x509.CRLDistributionPoints:
    """Return the extension of a certificate with one point for each list of URLs."""
    return x509.CRLDistributionPoints(
        [
            x509.DistributionPoint([x509.UniformResourceIdentifier(url) for url in urls], None, None, None)
            for urls in points
        ]
    )


def crl_scope(
    *urls: str,
    user: bool = False,
    ca: bool = False,
    attribute: bool = False,
    indirect: bool = False,
    reasons: frozenset[x509.ReasonFlags] | None = None,
    relative: x509.RelativeDistinguishedName | None = None,
) -> x509.IssuingDistributionPoint:
    """Return the extension of a CRL that says what it is for."""
    return x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url) for url in urls] or None,
        relative_name=relative,
        only_contains_user_certs=user,
        only_contains_ca_certs=ca,
        only_some_reasons=reasons,
        indirect_crl=indirect,
        only_contains_attribute_certs=attribute,
    )
