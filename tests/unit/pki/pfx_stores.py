"""PKCS#12 stores that no tool makes, put together from their parts (RFC 7292 §4)."""

import os

from cryptography import x509
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from make import PrivateKey

DATA = "1.2.840.113549.1.7.1"
ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
KEY_BAG = "1.2.840.113549.1.12.10.1.1"
SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2"
CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3"
X509_CERTIFICATE = "1.2.840.113549.1.9.22.1"
PBES2, PBKDF2 = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12"
HMAC_SHA256, AES256_CBC = "1.2.840.113549.2.9", "2.16.840.1.101.3.4.1.42"
PASSWORD = b"s3cret"


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def octets(content: bytes) -> bytes:
    return tlv(0x04, content)


def integer(number: int) -> bytes:
    return tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytes([first * 40 + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.insert(0, 0x80 | (arc & 0x7F))
        content += bytes(groups)
    return tlv(0x06, content)


def store(*contents: bytes) -> bytes:
    """Return a PFX without a MAC."""
    return sequence(integer(3), sequence(oid(DATA), tlv(0xA0, octets(sequence(*contents)))))


def plain(*bags: bytes) -> bytes:
    return sequence(oid(DATA), tlv(0xA0, octets(sequence(*bags))))


def encrypted(*bags: bytes, iterations: int = 2048) -> bytes:
    algorithm, ciphertext = encrypt(sequence(*bags), claim=iterations)
    inner = sequence(oid(DATA), algorithm, tlv(0x80, ciphertext))
    return sequence(oid(ENCRYPTED_DATA), tlv(0xA0, sequence(integer(0), inner)))


def key_bag(key: PrivateKey) -> bytes:
    return sequence(oid(KEY_BAG), tlv(0xA0, _pkcs8(key)))


def shrouded_key_bag(key: PrivateKey, *, iterations: int) -> bytes:
    algorithm, ciphertext = encrypt(_pkcs8(key), claim=iterations)
    return sequence(oid(SHROUDED_KEY_BAG), tlv(0xA0, sequence(algorithm, octets(ciphertext))))


def certificate_bag(certificate: x509.Certificate) -> bytes:
    der = certificate.public_bytes(Encoding.DER)
    return sequence(oid(CERTIFICATE_BAG), tlv(0xA0, sequence(oid(X509_CERTIFICATE), tlv(0xA0, octets(der)))))


def encrypt(content: bytes, *, claim: int) -> tuple[bytes, bytes]:
    """Return AlgorithmIdentifier (PBES2) and ciphertext. claim: the iterations that it says; made with at most 2048."""
    salt, iv = os.urandom(8), os.urandom(16)
    key = PBKDF2HMAC(SHA256(), 32, salt, min(claim, 2048)).derive(PASSWORD)
    padder, encryptor = PKCS7(128).padder(), Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    padded = padder.update(content) + padder.finalize()
    derivation = sequence(oid(PBKDF2), sequence(octets(salt), integer(claim), sequence(oid(HMAC_SHA256), tlv(0x05))))
    algorithm = sequence(oid(PBES2), sequence(derivation, sequence(oid(AES256_CBC), octets(iv))))
    return algorithm, encryptor.update(padded) + encryptor.finalize()


def _pkcs8(key: PrivateKey) -> bytes:
    content: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return content
