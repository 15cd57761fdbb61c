"""A tolerant reader of PEM (RFC 7468), for text that people paste and CAs send.

Markers are searched, not lines, so line ends, indentation, a byte order mark and text around the blocks don't matter.
Every character is looked at a bounded number of times. Whatever the text is, the only error is `BadMaterial`.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial
from certorbit.pki.foreign_errors import UNREADABLE

MOST_BYTES = 256 * 1024  # contract.md, Certificates: more is refused
CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})  # the second one: RFC 7468 §5.1, old tools
_DASHES = "-----"
_BEGIN = "-----BEGIN "
_LONGEST_LABEL = 64


@dataclass(frozen=True, slots=True)
class PEMBlock:
    """One block. number: its place in the text, from 1. der: the decoded body, which may be a secret."""

    label: str
    number: int
    is_encrypted: bool
    der: bytes = field(repr=False)

    @property
    def is_certificate(self) -> bool:
        return self.label in CERTIFICATE_LABELS

    @property
    def is_private_key(self) -> bool:
        return self.label.endswith("PRIVATE KEY")


def read_blocks(text: str, *, subject: str) -> tuple[PEMBlock, ...]:
    """Return all blocks of the text in order; none is not an error.

    Args:
        text: any text, at most 256 KiB as UTF-8.
        subject: the input's name, for the message.

    Raises:
        BadMaterial: too big, binary, a block that is cut off, or a body that isn't base64.
    """
    _check_text(text, subject=subject)
    blocks: list[PEMBlock] = []
    position = 0
    while (start := text.find(_BEGIN, position)) >= 0:
        position = start + len(_BEGIN)
        end_of_label = text.find(_DASHES, position, position + _LONGEST_LABEL + len(_DASHES))
        label = text[position:end_of_label]
        if end_of_label < 0 or not label or not label.isprintable():
            continue  # dashes of somebody's prose
        start_of_body = end_of_label + len(_DASHES)
        end_of_body = text.find(_DASHES, start_of_body)
        closing = f"-----END {label}-----"
        if end_of_body < 0 or not text.startswith(closing, end_of_body):
            raise BadMaterial(
                f"{subject}: block {len(blocks) + 1} ({label}) has no matching end line; the text was cut off or"
                " damaged. Give the whole file.",
                subject=subject,
            )
        position = end_of_body + len(closing)
        blocks.append(_read_body(text[start_of_body:end_of_body], label, number=len(blocks) + 1, subject=subject))
    return tuple(blocks)


def read_certificates(text: str, *, subject: str = "cert_body") -> tuple[x509.Certificate, ...]:
    """Return the certificates of the text in their order, duplicates included; other blocks are left out.

    The names and dates of each one can be read without an error afterwards; its extensions and key may still fail.

    Raises:
        BadMaterial: there is none, or the text or one of them can't be read (the message says which).
    """
    return load_certificates(read_blocks(text, subject=subject), subject=subject)


def load_certificates(blocks: Iterable[PEMBlock], *, subject: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates among the blocks; see `read_certificates`."""
    certificates = tuple(_load_certificate(block, subject=subject) for block in blocks if block.is_certificate)
    if not certificates:
        raise BadMaterial(
            f"{subject}: no certificate found. Give PEM text, with the lines -----BEGIN CERTIFICATE----- and"
            " -----END CERTIFICATE-----.",
            subject=subject,
        )
    return certificates


def write_certificates(certificates: Iterable[x509.Certificate]) -> str:
    """Return the certificates as one PEM text with "\\n" line ends and one at the end."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in certificates)


def _check_text(text: str, *, subject: str) -> None:
    # JSON can carry lone surrogates; they are counted, not choked on.
    if len(text) > MOST_BYTES or len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise BadMaterial(
            f"{subject}: more than {MOST_BYTES // 1024} KiB. Leave out what doesn't belong to this certificate.",
            subject=subject,
        )
    if "\0" in text:
        raise BadMaterial(
            f"{subject}: holds NUL bytes, so it is binary (DER, PKCS#12) or UTF-16. Give PEM text.", subject=subject
        )


def _read_body(body: str, label: str, *, number: int, subject: str) -> PEMBlock:
    """Return the block. Legacy headers ("Proc-Type: 4,ENCRYPTED", RFC 1421 §4.6.1.1) come before the base64."""
    lines = body.splitlines()
    headers = [line for line in lines if ":" in line]
    content = "".join("".join(line.split()) for line in lines if ":" not in line)
    try:
        der = base64.b64decode(content, validate=True)
    except ValueError as error:
        raise BadMaterial(
            f"{subject}: the body of block {number} ({label}) is not base64; it was cut off or damaged. Give the"
            " whole file.",
            subject=subject,
        ) from error
    is_encrypted = label == "ENCRYPTED PRIVATE KEY" or any("ENCRYPTED" in header for header in headers)
    return PEMBlock(label=label, number=number, is_encrypted=is_encrypted, der=der)


def _load_certificate(block: PEMBlock, *, subject: str) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(block.der)
        # cryptography reads these late; here they fail under the block's number.
        _ = (
            certificate.subject,
            certificate.issuer,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )
    except UNREADABLE as error:
        raise BadMaterial(
            f"{subject}: block {block.number} is not a readable X.509 certificate. Export it again.", subject=subject
        ) from error
    return certificate
