"""What is read from certificates, odd ones too."""

from hashlib import sha256
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from certorbit.errors import BadMaterial
from certorbit.model.material import CertificateFacts, KeyType
from certorbit.pki.private_key import load_own_key, public_key_sha256
from certorbit.pki.private_key import make_key as make_own_key
from certorbit.pki.public_key import find_key_fault, find_public_key, name_key_algorithm
from certorbit.pki.read import format_name, read_facts
from make import NOW, make_certificate, make_chain, make_key

KEY = make_key()


def facts_of(*extensions: x509.ExtensionType, is_ca: bool | None = False) -> CertificateFacts:
    return read_facts(make_certificate(key=KEY, subject="CN=x", is_ca=is_ca, extensions=extensions))


def attributes(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def test_names_are_in_certificate_order_with_their_short_names() -> None:
    facts = read_facts(make_chain(depth=2).leaf)
    assert facts.issuer == "C=US, O=Example Trust, CN=Example Root"
    assert facts.subject == "CN=www.example.com"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (x509.Name([]), ""),
        (attributes((NameOID.COMMON_NAME, "R11"), (NameOID.COUNTRY_NAME, "US")), "CN=R11, C=US"),
        (attributes((NameOID.ORGANIZATION_NAME, "Let's Encrypt, Inc. + Söhne")), "O=Let's Encrypt, Inc. + Söhne"),
        (
            attributes(
                (NameOID.STATE_OR_PROVINCE_NAME, "a"),
                (NameOID.LOCALITY_NAME, "b"),
                (NameOID.ORGANIZATIONAL_UNIT_NAME, "c"),
                (NameOID.DOMAIN_COMPONENT, "d"),
                (NameOID.USER_ID, "e"),
                (NameOID.EMAIL_ADDRESS, "f@g"),
                (NameOID.SERIAL_NUMBER, "7"),
            ),
            "ST=a, L=b, OU=c, DC=d, UID=e, emailAddress=f@g, serialNumber=7",
        ),
        (attributes((x509.ObjectIdentifier("1.2.3.4"), "odd")), "1.2.3.4=odd"),
        (attributes((NameOID.COMMON_NAME, "a\0b\nc")), "CN=a\\x00b\\nc"),
        (
            x509.Name(
                [
                    x509.RelativeDistinguishedName(
                        [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.USER_ID, "b")]
                    ),
                    x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "c")]),
                ]
            ),
            "CN=a+UID=b, O=c",
        ),
        (
            x509.Name([x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\0\x01", x509.name._ASN1Type.BitString)]),
            "2.5.4.45=#0001",
        ),
    ],
    ids=["empty", "order", "plain values", "short names", "number", "unprintable", "multi-valued", "bits"],
)
def test_a_name_is_written_for_people(name: x509.Name, text: str) -> None:
    assert format_name(name) == text


def test_names_and_addresses_keep_the_certificates_order_and_other_kinds_are_left_out() -> None:
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("b.example"),
            x509.RFC822Name("me@example"),
            x509.IPAddress(ip_address("2001:db8::1")),
            x509.UniformResourceIdentifier("https://u.example"),
            x509.DNSName("*.a.example"),
            x509.IPAddress(ip_address("192.0.2.1")),
        ]
    )
    assert facts_of(names).san == ("b.example", "2001:db8::1", "*.a.example", "192.0.2.1")


def test_only_http_addresses_of_crls_are_given() -> None:
    urls = ["ldap://x", "http://c.example/1.crl", "ftp://y", "HTTPS://c.example/2.crl"]
    points = x509.CRLDistributionPoints(
        [
            x509.DistributionPoint([x509.UniformResourceIdentifier(url) for url in urls], None, None, None),
            x509.DistributionPoint(None, None, None, [x509.DNSName("issuer.example")]),
        ]
    )
    assert facts_of(points).cdp == ("http://c.example/1.crl", "HTTPS://c.example/2.crl")


def test_hashes_serial_and_dates_are_those_of_the_certificate() -> None:
    certificate = make_certificate(key=KEY, subject="CN=x", serial=0x0ABC, days=1)
    facts = read_facts(certificate)
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert facts.serial == "abc"
    assert facts.fingerprint == certificate.fingerprint(SHA256()).hex()
    assert facts.public_key_sha256 == sha256(spki).hexdigest()
    assert (facts.not_after - NOW).days == 1
    assert facts.not_before.utcoffset() is not None


def test_the_authority_key_id_is_hex_or_empty() -> None:
    assert facts_of(x509.AuthorityKeyIdentifier(b"\xab\x01", None, None)).authority_key_id == "ab01"
    assert facts_of(x509.AuthorityKeyIdentifier(None, [x509.DNSName("a")], 5)).authority_key_id == ""
    assert facts_of().authority_key_id == ""


def test_a_certificate_without_basic_constraints_is_no_ca() -> None:
    assert not facts_of(is_ca=None).is_ca
    assert facts_of(is_ca=True).is_ca


@pytest.mark.parametrize("key", ["rsa-2048", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519"])
def test_the_key_algorithm_is_named_as_in_the_settings(key: str) -> None:
    assert read_facts(make_certificate(key=make_key(key), subject="CN=x")).key_algorithm == key


def test_other_curves_and_kinds_are_named_by_what_they_are() -> None:
    assert name_key_algorithm(make_key("ecdsa-secp256k1").public_key()) == "ecdsa-secp256k1"
    assert name_key_algorithm(make_key("dsa-2048").public_key()) == "dsa-2048"
    assert name_key_algorithm(Ed448PrivateKey.generate().public_key()) == "ed448"
    assert name_key_algorithm(X25519PrivateKey.generate().public_key()) == "unknown"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("rsa-1024", "1024 bits is too short"),
        ("ecdsa-p224", "ecdsa-secp224r1 can't be served"),
        ("ed25519", "ed25519 can't be served"),
    ],
)
def test_a_key_that_cannot_be_served_has_a_fault(key: str, says: str) -> None:
    assert says in find_key_fault(make_key(key).public_key())


def test_a_key_whose_check_would_take_seconds_has_a_fault() -> None:
    long_key = RSAPublicNumbers(65537, 2**8191 + 1).public_key()  # making a real one takes as long
    assert find_key_fault(long_key) == "an RSA key of 8192 bits is too long; at most 4096 are taken"


@pytest.mark.parametrize("key", ["rsa-2048", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
def test_a_key_that_can_be_served_has_none(key: str) -> None:
    assert find_key_fault(make_key(key).public_key()) == ""


def test_an_unknown_extension_is_no_problem() -> None:
    assert facts_of(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"anything")).subject == "CN=x"


def broken_san(value: bytes) -> x509.Certificate:
    return make_certificate(
        key=KEY,
        subject="CN=x",
        extensions=[x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, value)],
    )


@pytest.mark.parametrize(
    "value",
    [b"", b"\xff\xff", b"\x30\x03\x82\x01", bytes.fromhex("3004a3023000"), bytes.fromhex("300387010a")],
    ids=["empty", "garbage", "cut off", "x400Address", "address of one byte"],
)
def test_an_extension_that_cannot_be_read_is_bad_material(value: bytes) -> None:
    with pytest.raises(BadMaterial, match="can't be read"):
        read_facts(broken_san(value))


def test_an_extension_that_is_there_twice_is_bad_material() -> None:
    certificate = make_certificate(
        key=KEY,
        subject="CN=x",
        names=["a.example"],
        extensions=[x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), bytes.fromhex("3003820161"))],
    )
    der = certificate.public_bytes(Encoding.DER).replace(bytes.fromhex("0603551d12"), bytes.fromhex("0603551d11"))
    with pytest.raises(BadMaterial, match="DuplicateExtension"):
        read_facts(x509.load_der_x509_certificate(der))


def test_a_key_that_nobody_knows_is_bad_material() -> None:
    der = make_certificate(key=make_key("ed25519"), subject="CN=x").public_bytes(Encoding.DER)
    unknown = x509.load_der_x509_certificate(der.replace(bytes.fromhex("06032b6570"), bytes.fromhex("06032b657a")))
    assert find_public_key(unknown) is None
    with pytest.raises(BadMaterial, match="UnsupportedAlgorithm"):
        read_facts(unknown)


@pytest.mark.parametrize("key_type", [KeyType.ECDSA_P256, KeyType.ECDSA_P384, KeyType.RSA_2048, KeyType.RSA_3072])
def test_keys_that_we_make_are_of_the_type_that_was_asked_for(key_type: KeyType) -> None:
    key = make_own_key(key_type)
    assert name_key_algorithm(load_own_key(key).public_key()) == key_type
    assert key.reveal().startswith("-----BEGIN PRIVATE KEY-----\n")
    certificate = make_certificate(key=load_own_key(key), subject="CN=x")
    assert public_key_sha256(key) == read_facts(certificate).public_key_sha256
