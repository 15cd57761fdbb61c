"""Certificates and keys that public test suites and advisories know, each made here from its description.

A case says where it comes from: the RFC's rule that it breaks, the advisory, or the public suite that has one like it
(NIST's PKITS, Google's x509-limbo, OpenSSL's and Go's own tests).
"""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certorbit.model.entry import Side
from fuzz.der_tree import Node, parse
from fuzz.mutating import pem_of, read_pem
from make import NOW, make_certificate, make_chain, make_key, pem, write_key
from unit.pki.pfx_stores import integer, oid, sequence, tlv

CHAIN = make_chain(depth=1)
KEY, KEY_PEM = CHAIN.key, CHAIN.key_pem
VERSION, SERIAL, ISSUER, VALIDITY, SUBJECT, PUBLIC_KEY, EXTENSIONS = 0, 1, 3, 4, 5, 6, 7
SAN_OID, UNKNOWN_OID = "2.5.29.17", "1.3.6.1.4.1.99999.1"
COMMON_NAME, CRITICAL = oid("2.5.4.3"), b"\x01\x01\xff"
NOT_READABLE = "block 1 is not a readable X.509 certificate"
ODD_EXTENSIONS = "a certificate's names, key or extensions can't be read"
NO_KEY = "the private key can't be read"
certificate_pem = pem_of("CERTIFICATE")
key_pem = pem_of("PRIVATE KEY")


@dataclass(frozen=True)
class Case:
    """make: body and key. refusal: what the message says; "": it is taken, and `san` is what is shown of its names."""

    source: str
    make: Callable[[], tuple[str, str]]
    refusal: str = ""
    side: Side = Side.SERVER
    san: tuple[str, ...] | None = None


def build(change: Callable[[list[Node]], None]) -> str:
    """Return the leaf with its to-be-signed part changed, signed anew with its own key."""
    tree = parse(CHAIN.leaf.public_bytes(Encoding.DER))
    assert tree.children is not None
    body, algorithm, _ = tree.children
    assert body.children is not None
    change(body.children)
    signed = body.encode()
    signature: bytes = KEY.sign(signed, ec.ECDSA(SHA256()))
    return certificate_pem(sequence(signed, algorithm.encode(), tlv(0x03, b"\0" + signature)))


def with_part(place: int, der: bytes) -> Callable[[], tuple[str, str]]:
    """Return a maker of the leaf with one part replaced; b"" leaves it out."""

    def make() -> tuple[str, str]:
        def change(parts: list[Node]) -> None:
            parts[place].raw = der

        return build(change), KEY_PEM

    return make


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    return sequence(oid(dotted), CRITICAL if critical else b"", tlv(0x04, value))


def with_extensions(*extensions: bytes) -> Callable[[], tuple[str, str]]:
    return with_part(EXTENSIONS, tlv(0xA3, sequence(*extensions)))


def with_san(*names: bytes) -> Callable[[], tuple[str, str]]:
    return with_extensions(extension(SAN_OID, sequence(*names)))


def dns(name: bytes) -> bytes:
    return tlv(0x82, name)


def name_of(tag: int, text: bytes) -> bytes:
    return sequence(tlv(0x31, sequence(COMMON_NAME, tlv(tag, text))))


def validity(start: bytes, end: bytes, *, tags: tuple[int, int] = (0x17, 0x17)) -> bytes:
    return sequence(tlv(tags[0], start), tlv(tags[1], end))


def version_1(*, keep_extensions: bool) -> tuple[str, str]:
    def change(parts: list[Node]) -> None:
        parts[VERSION].raw = b""
        if not keep_extensions:
            parts[EXTENSIONS].raw = b""

    return build(change), KEY_PEM


def of(certificate: x509.Certificate, key: str = KEY_PEM) -> Callable[[], tuple[str, str]]:
    return lambda: (pem(certificate), key)


def rsa_pem(modulus: int, exponent: int, private: int) -> str:
    """Return a PKCS#1 key of these numbers; the others are as wrong as they can be."""
    numbers = (0, modulus, exponent, private, 3, modulus // 3 | 1, 1, 1, 1)
    return pem_of("RSA PRIVATE KEY")(sequence(*map(integer, numbers)))


def long_rsa() -> tuple[str, str]:
    """A key of 16,384 bits: made of no primes, for to find them takes minutes; a reader must not try them either."""
    modulus = (1 << 16_383) + 0x1D1
    return CHAIN.leaf_pem, rsa_pem(modulus, 65_537, modulus - 2)


def changed_rsa(*, exponent: int | None = None, even: bool = False) -> Callable[[], tuple[str, str]]:
    def make() -> tuple[str, str]:
        numbers = make_key("rsa-2048").private_numbers()
        modulus = numbers.public_numbers.n
        return CHAIN.leaf_pem, rsa_pem(modulus - 1 if even else modulus, exponent or 65_537, numbers.d)

    return make


def ec_key(*, parameters: bytes = b"", point: bytes | None = None, scalar: int | None = None) -> tuple[str, str]:
    """Return a SEC1 key with other parameters, another point or another scalar (RFC 5915)."""
    numbers = KEY.private_numbers()
    public = numbers.public_numbers
    encoded = b"\x04" + public.x.to_bytes(32, "big") + public.y.to_bytes(32, "big")
    number = (numbers.private_value if scalar is None else scalar).to_bytes(32, "big")
    der = sequence(
        integer(1),
        tlv(0x04, number),
        tlv(0xA0, parameters or oid("1.2.840.10045.3.1.7")),
        tlv(0xA1, tlv(0x03, b"\0" + (encoded if point is None else point))),
    )
    return CHAIN.leaf_pem, pem_of("EC PRIVATE KEY")(der)


def explicit_parameters() -> bytes:
    """P-256 written out (X9.62), but with our own public key as its generator."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    public = KEY.public_key().public_numbers()
    generator = b"\x04" + public.x.to_bytes(32, "big") + public.y.to_bytes(32, "big")
    field = sequence(oid("1.2.840.10045.1.1"), integer(prime))
    curve = sequence(tlv(0x04, (prime - 3).to_bytes(32, "big")), tlv(0x04, b.to_bytes(32, "big")))
    return sequence(integer(1), field, curve, tlv(0x04, generator), integer(order), integer(1))


def ed448_pair() -> tuple[str, str]:
    key = ed448.Ed448PrivateKey.generate()
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([]))
    builder = builder.public_key(key.public_key()).serial_number(5)
    certificate = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1)).sign(key, None)
    return pem(certificate), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def loop() -> tuple[str, str]:
    """A and B issue each other; both issue the leaf by way of A."""
    first, second = make_key(index=301), make_key(index=302)
    a_name = make_certificate(key=first, subject="CN=A", is_ca=True)
    a = make_certificate(key=first, subject="CN=A", is_ca=True, issuer=make_b(second), issuer_key=second)
    b = make_certificate(key=second, subject="CN=B", is_ca=True, issuer=a_name, issuer_key=first)
    leaf = make_certificate(key=KEY, subject="CN=leaf", names=["leaf.test"], issuer=a, issuer_key=first)
    return pem(leaf, b, a), KEY_PEM


def make_b(key: object) -> x509.Certificate:
    return make_certificate(key=key, subject="CN=B", is_ca=True)


def two_leaves() -> tuple[str, str]:
    other = make_chain(names=["other.example.com"], key_index=1)
    return other.leaf_pem + CHAIN.leaf_pem + other.issuers_pem, KEY_PEM


def names(count: int) -> tuple[str, ...]:
    return tuple(f"n{number}.example.com" for number in range(count))


def all_cases() -> Iterator[tuple[str, Case]]:
    """Yield every case with its name."""
    for table in (numbers_and_versions(), extensions_and_names(), keys(), chains()):
        yield from table.items()


def numbers_and_versions() -> dict[str, Case]:
    return {
        "negative serial": Case("RFC 5280 §4.1.2.2; Go 1.23 x509negativeserial", with_part(SERIAL, b"\x02\x01\x80")),
        "serial zero": Case("RFC 5280 §4.1.2.2; x509-limbo rfc5280::serial::zero", with_part(SERIAL, integer(0))),
        "serial of 21 octets": Case("x509-limbo rfc5280::serial::too-long", with_part(SERIAL, integer(1 << 160))),
        "serial of 2,000 octets": Case("RFC 5280 §4.1.2.2", with_part(SERIAL, integer(1 << 15_999))),
        "serial not of least length": Case(
            "X.690 §8.3.2", with_part(SERIAL, b"\x02\x02\x00\x05"), refusal=NOT_READABLE
        ),
        "version 1": Case("PKITS 4.6 (basic constraints)", lambda: version_1(keep_extensions=False), san=()),
        "version 1 with extensions": Case("RFC 5280 §4.1.2.9", lambda: version_1(keep_extensions=True)),
        "version 2": Case("RFC 5280 §4.1.2.1", with_part(VERSION, tlv(0xA0, integer(1))), refusal=NOT_READABLE),
        "version 4": Case("RFC 5280 §4.1.2.1", with_part(VERSION, tlv(0xA0, integer(3))), refusal=NOT_READABLE),
        "GeneralizedTime before 2050": Case(
            "RFC 5280 §4.1.2.5; PKITS 4.2.4",
            with_part(VALIDITY, validity(b"20260101000000Z", b"20270101000000Z", tags=(0x18, 0x18))),
        ),
        "UTCTime without seconds": Case(
            "RFC 5280 §4.1.2.5.1", with_part(VALIDITY, validity(b"2601010000Z", b"2701010000Z")), refusal=NOT_READABLE
        ),
        "UTCTime with a zone": Case(
            "RFC 5280 §4.1.2.5.1; CVE-2021-3712 (ASN.1 strings)",
            with_part(VALIDITY, validity(b"260101000000+0100", b"270101000000+0100")),
            refusal=NOT_READABLE,
        ),
        "GeneralizedTime with fractions": Case(
            "RFC 5280 §4.1.2.5.2",
            with_part(VALIDITY, validity(b"20260101000000.5Z", b"20270101000000.5Z", tags=(0x18, 0x18))),
            refusal=NOT_READABLE,
        ),
        "no end (99991231235959Z)": Case(
            "RFC 5280 §4.1.2.5",
            with_part(VALIDITY, validity(b"260101000000Z", b"99991231235959Z", tags=(0x17, 0x18))),
        ),
        "UTCTime of 1950": Case(
            "RFC 5280 §4.1.2.5.1", with_part(VALIDITY, validity(b"500101000000Z", b"491231235959Z"))
        ),
        "a day that there is not": Case(
            "X.680 §47", with_part(VALIDITY, validity(b"260230000000Z", b"270230000000Z")), refusal=NOT_READABLE
        ),
        "end before start": Case("PKITS 4.2", with_part(VALIDITY, validity(b"270101000000Z", b"260101000000Z"))),
    }


def extensions_and_names() -> dict[str, Case]:
    mapped = ipaddress.ip_address("::ffff:127.0.0.1").packed
    constrained = x509.NameConstraints([x509.DNSName("other.test")], None)
    return {
        "doubled extension": Case(
            "RFC 5280 §4.2; x509-limbo rfc5280::duplicate-extensions",
            with_extensions(extension(SAN_OID, sequence(dns(b"a.test"))), extension(SAN_OID, sequence(dns(b"b.test")))),
            refusal=ODD_EXTENSIONS,
        ),
        "unknown critical extension": Case(
            "RFC 5280 §4.2; PKITS 4.16.2", with_extensions(extension(UNKNOWN_OID, b"\x05\x00", critical=True)), san=()
        ),
        "huge OID": Case(
            "CVE-2023-2650",
            with_extensions(extension("1.3." + ".".join(["9" * 3000] * 3), b"\x05\0")),
            refusal=NOT_READABLE,
        ),
        "no extension in the list": Case("RFC 5280 §4.1.2.9", with_extensions(), san=()),
        "empty issuer": Case("RFC 5280 §4.1.2.4; x509-limbo rfc5280::empty-issuer", with_part(ISSUER, sequence())),
        "empty subject": Case("RFC 5280 §4.1.2.6", with_part(SUBJECT, sequence())),
        "BMPString": Case("RFC 5280 §4.1.2.4", with_part(SUBJECT, name_of(0x1E, "Grüße".encode("utf-16-be")))),
        "BMPString of odd length": Case(
            "X.690 §8.21", with_part(SUBJECT, name_of(0x1E, b"\0a\0")), refusal=NOT_READABLE
        ),
        "BMPString with half a pair": Case(
            "X.680 §41", with_part(SUBJECT, name_of(0x1E, b"\xd8\x00")), refusal=NOT_READABLE
        ),
        "TeletexString": Case(
            "RFC 5280 §4.1.2.4; PKITS 4.3", with_part(SUBJECT, name_of(0x14, b"Gr\xfc\xdfe")), refusal=NOT_READABLE
        ),
        "UniversalString": Case("RFC 5280 §4.1.2.4", with_part(SUBJECT, name_of(0x1C, "a".encode("utf-32-be")))),
        "UTF8String that isn't UTF-8": Case(
            "X.690 §8.21", with_part(SUBJECT, name_of(0x0C, b"\xff\xfe")), refusal=NOT_READABLE
        ),
        "INTEGER as a name": Case(
            "RFC 5280 §4.1.2.4", with_part(SUBJECT, name_of(0x02, b"\x05")), refusal=NOT_READABLE
        ),
        "common name of 10,000 characters": Case(
            "X.520 ub-common-name", with_part(SUBJECT, name_of(0x0C, b"x" * 10_000))
        ),
        "NUL in a common name": Case("CVE-2009-2408", with_part(SUBJECT, name_of(0x0C, b"bank.test\0.evil.test"))),
        "right-to-left mark in a name": Case(
            "CVE-2021-42574", with_part(SUBJECT, name_of(0x0C, "\u202etset.knab".encode()))
        ),
        "line end in a name": Case("CWE-117", with_part(SUBJECT, name_of(0x0C, b'a\r\n{"event":"forged"}'))),
        "NUL in a SAN": Case(
            "CVE-2009-2408", with_san(dns(b"bank.test\0.evil.test")), san=("bank.test\\x00.evil.test",)
        ),
        "wildcards": Case(
            "RFC 6125 §6.4.3; x509-limbo webpki::san::wildcard",
            with_san(dns(b"*"), dns(b"*.*.test"), dns(b"a*.test"), dns(b"*.test")),
            san=("*", "*.*.test", "a*.test", "*.test"),
        ),
        "mapped address": Case(
            "RFC 4291 §2.5.5.2", with_san(tlv(0x87, mapped)), san=(str(ipaddress.ip_address(mapped)),)
        ),
        "address of 5 octets": Case(
            "RFC 5280 §4.2.1.6; CVE-2021-3712", with_san(tlv(0x87, b"\x7f\0\0\1\2")), refusal=ODD_EXTENSIONS
        ),
        "address with a mask": Case(
            "RFC 5280 §4.2.1.10", with_san(tlv(0x87, b"\x7f\0\0\1\xff\0\0\0")), refusal=ODD_EXTENSIONS
        ),
        "UTF-8 in a SAN": Case("RFC 5280 §7.2", with_san(dns("bücher.test".encode())), san=("bücher.test",)),
        "empty SAN": Case("RFC 5280 §4.2.1.6; x509-limbo rfc5280::san::empty", with_san(), san=()),
        "empty name in a SAN": Case("RFC 5280 §4.2.1.6", with_san(dns(b"")), san=("",)),
        "mail and URI in a SAN": Case(
            "RFC 5280 §4.2.1.6", with_san(tlv(0x81, b"a@b.test"), tlv(0x86, b"http://[::1")), san=()
        ),
        "x400Address in a SAN": Case("CVE-2023-0286", with_san(tlv(0xA3, sequence())), refusal=ODD_EXTENSIONS),
        "ediPartyName in a SAN": Case(
            "CVE-2020-1971", with_san(tlv(0xA5, tlv(0xA1, tlv(0x0C, b"x")))), refusal=ODD_EXTENSIONS
        ),
        "120 names": Case(
            "BR 7.1.2.7.12 sets no limit", of(make_certificate(key=KEY, subject="", names=names(120))), san=names(120)
        ),
        "name constraints on a leaf": Case(
            "RFC 5280 §4.2.1.10; x509-limbo rfc5280::nc",
            of(make_certificate(key=KEY, subject="CN=x", names=["x.test"], extensions=[constrained])),
            san=("x.test",),
        ),
    }


def keys() -> dict[str, Case]:
    dsa = make_key("dsa-2048")
    return {
        "RSA with e = 1": Case("CVE-2017-15361's family; x509-limbo", changed_rsa(exponent=1), refusal=NO_KEY),
        "RSA with an even e": Case("RFC 8017 §3.1", changed_rsa(exponent=65_536), refusal=NO_KEY),
        "RSA with an even modulus": Case("CVE-2022-0778 (even moduli)", changed_rsa(even=True), refusal=NO_KEY),
        "RSA of 16,384 bits": Case(
            "CVE-2023-3446, CVE-2023-3817: checks of long keys", long_rsa, refusal="16384 bits is too long"
        ),
        "point that is not on the curve": Case(
            "invalid curve attacks: CVE-2015-7940", lambda: ec_key(point=b"\x04" + b"\1" * 64), refusal=NO_KEY
        ),
        "point at infinity": Case("SEC 1 §3.2.2", lambda: ec_key(point=b"\0"), refusal=NO_KEY),
        "compressed point with no root": Case(
            "CVE-2022-0778", lambda: ec_key(point=b"\x02" + b"\xff" * 32), refusal=NO_KEY
        ),
        "scalar zero": Case("SEC 1 §3.2", lambda: ec_key(scalar=0), refusal=NO_KEY),
        "scalar over the order": Case("SEC 1 §3.2", lambda: ec_key(scalar=2**256 - 1), refusal=NO_KEY),
        "explicit parameters": Case(
            "CVE-2020-0601 (a generator of one's own)",
            lambda: ec_key(parameters=explicit_parameters()),
            refusal=NO_KEY,
        ),
        "Ed448": Case("RFC 8410; BR 6.1.1.3", ed448_pair, refusal="ed448 can't be served"),
        "DSA": Case("BR 6.1.1.3", lambda: (CHAIN.leaf_pem, write_key(dsa)), refusal="dsa-2048 can't be served"),
        "an attribute of 100 KiB in a key": Case("RFC 5208 §5", lambda: (CHAIN.leaf_pem, padded_key())),
    }


def padded_key() -> str:
    tree = parse(read_pem(KEY_PEM))
    assert tree.children is not None
    attribute = sequence(oid("1.2.840.113549.1.9.9.20"), tlv(0x31, tlv(0x0C, b"x" * 100_000)))
    return key_pem(sequence(*(child.encode() for child in tree.children), tlv(0xA0, attribute)))


def chains() -> dict[str, Case]:
    return {
        "a chain that is a loop": Case("RFC 5280 §6.1; PKITS 4.5", loop, san=("leaf.test",)),
        "a leaf that signed itself, twice": Case("RFC 5280 §6.1", lambda: (CHAIN.leaf_pem * 2, KEY_PEM)),
        "33 certificates of one name and key": Case(
            "CVE-2018-16875 (chain building)", lambda: (CHAIN.leaf_pem + many(32), KEY_PEM), refusal="at most 32"
        ),
        "200 authorities of one name and key": Case(
            "CVE-2018-16875", lambda: (many(200), ""), side=Side.CLIENT_CA, san=()
        ),
        "1,000 authorities": Case(
            "CVE-2024-0567's family", lambda: (many(1000), ""), side=Side.CLIENT_CA, refusal="more than 256 KiB"
        ),
        "two leaves": Case("contract.md, Certificates", two_leaves, san=("www.example.com",)),
    }


def many(count: int) -> str:
    """Return that many CA certificates that differ in their serial only: each might have issued every other."""
    tree = parse(make_certificate(key=make_key(index=303), subject="CN=x", is_ca=True).public_bytes(Encoding.DER))
    made = []
    for number in range(count):
        assert tree.children is not None
        assert tree.children[0].children is not None
        tree.children[0].children[SERIAL].raw = integer(number + 1)
        made.append(certificate_pem(tree.encode()))
    return "".join(made)
