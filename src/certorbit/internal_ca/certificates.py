"""The three kinds of certificates of the built-in CA (RFC 5280): root, issuing, leaf. Pure: time is passed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certorbit.internal_ca.request import LeafPublicKey, Request
from certorbit.model.identifiers import IdentifierType
from certorbit.pki.csr import make_san

BACKDATE = timedelta(minutes=5)  # clients' clocks may be a little behind ours
ISSUING_MARGIN = timedelta(days=1)  # the issuing certificate ends before the root does
_LONGEST_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name
_LONGEST_ORGANIZATION_IN_CN = 40  # leaves room for " Issuing 1a2b3c4d"


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA certificate and its key. The key object lives as long as one signature."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_root(
    key: ec.EllipticCurvePrivateKey,
    *,
    organization: str,
    permitted_subtrees: Sequence[str],
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    """Return a self-signed root.

    Args:
        permitted_subtrees: normalised DNS subtrees. If there are any, a critical NameConstraints extension allows
            them alone, and no IP address at all: a type without a constraint would be free (RFC 5280 §4.2.1.10).
    """
    name = _authority_name(key.public_key(), organization=organization, role="Root")
    builder = (
        _builder(key.public_key(), subject=name, issuer=name, now=now, not_after=now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if permitted_subtrees:
        constraints = x509.NameConstraints(
            permitted_subtrees=[x509.DNSName(subtree) for subtree in permitted_subtrees],
            excluded_subtrees=[x509.IPAddress(IPv4Network("0.0.0.0/0")), x509.IPAddress(IPv6Network("::/0"))],
        )
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(key, _hash_for(key))


def make_issuing(
    key: ec.EllipticCurvePrivateKey, *, root: Signer, organization: str, now: datetime
) -> x509.Certificate:
    """Return the certificate that signs leaves and CRLs; it ends a day before the root and can't make other CAs."""
    return (
        _builder(
            key.public_key(),
            subject=_authority_name(key.public_key(), organization=organization, role="Issuing"),
            issuer=root.certificate.subject,
            now=now,
            not_after=root.certificate.not_valid_after_utc - ISSUING_MARGIN,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(find_authority_key(root.certificate), critical=False)
        .sign(root.key, _hash_for(root.key))
    )


def make_leaf(request: Request, *, issuing: Signer, now: datetime, life: timedelta, crl_url: str) -> x509.Certificate:
    """Return a leaf for TLS servers and clients.

    Args:
        now: aware UTC, before the issuing certificate's end; the leaf never outlives that one.
        crl_url: where the CRL is, "" if outsiders can't reach us.
    """
    subject = _leaf_name(request)
    builder = (
        _builder(
            request.public_key,
            subject=subject,
            issuer=issuing.certificate.subject,
            now=now,
            not_after=min(now + life, issuing.certificate.not_valid_after_utc),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        # RFC 5280 §4.2.1.6: with an empty subject the extension MUST be critical.
        .add_extension(make_san(request.identifiers), critical=not list(subject))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key), critical=False)
        .add_extension(find_authority_key(issuing.certificate), critical=False)
    )
    if crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    return builder.sign(issuing.key, _hash_for(issuing.key))


def find_authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the AKI that what this CA certificate signs has: the CA's own SKI (RFC 5280 §4.2.1.1)."""
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _builder(
    public_key: LeafPublicKey,
    *,
    subject: x509.Name,
    issuer: x509.Name,
    now: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())  # 159 random bits, positive, 20 octets (RFC 5280 §4.1.2.2)
        .not_valid_before((now - BACKDATE).replace(microsecond=0))
        .not_valid_after(not_after.replace(microsecond=0))
    )


def _authority_name(key: ec.EllipticCurvePublicKey, *, organization: str, role: str) -> x509.Name:
    """Return a name that no other deployment's CA has: trust stores find certificates by it."""
    mark = x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()[:8]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"{organization[:_LONGEST_ORGANIZATION_IN_CN].strip()} {role} {mark}"
            ),
        ]
    )


def _leaf_name(request: Request) -> x509.Name:
    """Return the first DNS name as common name, for people and old clients; empty when there is none that fits."""
    names = [i.value for i in request.identifiers if i.type is IdentifierType.DNS]
    if not names or len(names[0]) > _LONGEST_COMMON_NAME:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])


def _authority_usage() -> x509.KeyUsage:
    return _key_usage(key_cert_sign=True, crl_sign=True)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _hash_for(key: ec.EllipticCurvePrivateKey) -> SHA256 | SHA384:
    return SHA384() if key.key_size > 256 else SHA256()
