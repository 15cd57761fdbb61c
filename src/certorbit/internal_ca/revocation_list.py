"""The CRL of the built-in CA (RFC 5280 §5). Pure: time and number are passed in."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.internal_ca.certificates import Signer, find_authority_key
from certorbit.ports.authority_store import RevokedSerial

# RFC 5280 §5.3.1 by number. 7 is unused; 6 and 8 are about holds, which we don't do.
REASONS = {
    1: x509.ReasonFlags.key_compromise,
    2: x509.ReasonFlags.ca_compromise,
    3: x509.ReasonFlags.affiliation_changed,
    4: x509.ReasonFlags.superseded,
    5: x509.ReasonFlags.cessation_of_operation,
    9: x509.ReasonFlags.privilege_withdrawn,
    10: x509.ReasonFlags.aa_compromise,
}
UNSPECIFIED = 0


def make_crl(
    revoked: Sequence[RevokedSerial], *, issuing: Signer, number: int, now: datetime, validity: timedelta
) -> bytes:
    """Return a version 2 CRL with all of the given serials, signed with SHA-256, as DER.

    Args:
        number: greater than that of every earlier CRL of this CA (RFC 5280 §5.2.3).
        now: aware UTC; `nextUpdate` is `validity` later.
    """
    start = now.replace(microsecond=0)
    # The constructor takes the entries at once; adding them one by one copies the list each time.
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=issuing.certificate.subject, revoked_certificates=[_make_entry(entry) for entry in revoked]
    )
    return (
        builder.last_update(start)
        .next_update(start + validity)
        .add_extension(find_authority_key(issuing.certificate), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
        .sign(issuing.key, SHA256())
        .public_bytes(Encoding.DER)
    )


def _make_entry(revoked: RevokedSerial) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(int(revoked.serial, 16))
        .revocation_date(revoked.revoked_at.replace(microsecond=0))
    )
    # "the reason code CRL entry extension SHOULD be absent instead of using the unspecified (0) reasonCode value"
    reason = REASONS.get(revoked.reason)
    if reason is not None:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()
