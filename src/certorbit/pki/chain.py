"""Chains: putting certificates in order, and the check of what a CA sent us before we keep it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import NEVER, BadIssue, BadMaterial
from certorbit.model.material import CertificateFacts
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.pem import load_certificates, read_blocks
from certorbit.pki.purposes import is_for_clients
from certorbit.pki.read import format_name, make_printable, read_facts
from certorbit.pki.signer_keys import check_signer_keys

CLOCK_SKEW = timedelta(hours=1)  # a CA's clock may be ahead of ours; public CAs backdate by an hour for the same reason
# A certificate that is over at once would be renewed at once: a loop of issuances. More can't be asked, since private
# CAs issue for minutes.
LEAST_LIFE = timedelta(minutes=1)
MOST_SERVED = 32  # certificates of a chain, whose natural length is 2 to 5
MOST_TRIES = 64  # signatures that may turn out to be of another certificate; of cross-signed CAs there are a handful


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's name and key fit the certificate (its signature is checked). Dates don't matter."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def pick_leaf(certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """Return the certificate whose name is on none of the others as issuer.

    Of several: one that isn't self-signed, then the one that lasts longest. The order of the input doesn't matter.
    certificates: at least one.
    """
    unique = set(certificates)
    issuers = {certificate.issuer for certificate in unique if certificate.issuer != certificate.subject}
    ends = [certificate for certificate in unique if certificate.subject not in issuers]
    return max(ends or unique, key=_preference)


def order_chain(
    certificates: Sequence[x509.Certificate], *, leaf: x509.Certificate | None = None, subject: str = "cert_body"
) -> tuple[x509.Certificate, ...]:
    """Return the chain, leaf first, each certificate signed by the next one, as far as the given ones reach.

    The order of the input doesn't matter. Of several issuers that fit (cross-signed ones) the one that lasts longest
    is taken; a self-signed certificate ends the chain. Certificates that are no part of this chain are left out.

    Args:
        certificates: at least one, names readable.
        leaf: where to start; else `pick_leaf` says.
        subject: the input's name, for the message.

    Raises:
        BadMaterial: so many of them have one name that more than `MOST_TRIES` signatures would have to be checked;
            or see `check_signer_keys`.
    """
    check_signer_keys(certificates, subject=subject)
    chain = [leaf if leaf is not None else pick_leaf(certificates)]
    by_name: dict[x509.Name, list[x509.Certificate]] = {}
    for certificate in sorted(set(certificates) - set(chain), key=_preference, reverse=True):
        by_name.setdefault(certificate.subject, []).append(certificate)
    tries = 0
    while not is_issued_by(chain[-1], chain[-1]):
        for candidate in by_name.get(chain[-1].issuer, ()):
            if is_issued_by(chain[-1], candidate):
                break
            tries += 1
            if tries > MOST_TRIES:
                raise _too_many(chain[-1].issuer, subject=subject)
        else:
            break
        by_name[candidate.subject].remove(candidate)
        chain.append(candidate)
    return tuple(chain)


def order_bundle(certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return the CAs in path order: each one before those that its issuer field names; else in the order given.

    By names alone: nothing is trusted for the order, and a bundle of many CAs of one name costs no signatures. CAs
    that signed each other stay as they come. The depth of the work is the number of CAs: bound it.
    """
    by_subject: dict[x509.Name, list[x509.Certificate]] = {}
    for certificate in certificates:
        by_subject.setdefault(certificate.subject, []).append(certificate)
    done: set[x509.Certificate] = set()
    issuers_first: list[x509.Certificate] = []

    def visit(certificate: x509.Certificate) -> None:
        if certificate in done:
            return
        done.add(certificate)
        if certificate.issuer != certificate.subject:
            for issuer in reversed(by_subject.get(certificate.issuer, [])):
                visit(issuer)
        issuers_first.append(certificate)

    for certificate in reversed(certificates):
        visit(certificate)
    return tuple(reversed(issuers_first))


def check_issue(
    chain_pem: str, *, identifiers: Sequence[str], public_key_sha256: str, now: datetime
) -> CertificateFacts:
    """Return the facts of the leaf if a CA's answer is what we asked for.

    Args:
        chain_pem: as it came: leaf first, "each following certificate SHOULD directly certify the one preceding it"
            (RFC 8555 §9.1). Here it must, for servers send it on as it is.
        identifiers: the normalised names that were asked for, in any order.
        public_key_sha256: of the key in our request.
        now: aware UTC.

    Raises:
        BadIssue: other names, another key, dates that aren't now, a CA certificate, a chain that doesn't fit
            together, or something else than certificates in the answer. Trust in the root is not checked.
    """
    try:
        chain = _read_chain(chain_pem)
        facts = read_facts(chain[0])
    except BadMaterial as error:
        raise BadIssue(f"The CA's answer can't be used. {error.message}", subject="chain") from error
    _check_names(facts, identifiers=identifiers)
    if facts.public_key_sha256 != public_key_sha256:
        raise BadIssue("The CA's certificate has another key than our request.", subject="key")
    if facts.is_ca:
        raise BadIssue("The CA's certificate is a CA certificate itself; a leaf was asked for.", subject="chain")
    _check_dates(facts, now=now)
    for certificate, issuer in pairwise(chain):
        if not is_issued_by(certificate, issuer):
            raise BadIssue(
                f"The CA's chain doesn't fit together: {format_name(certificate.subject) or 'the leaf'} is not signed"
                f" by {format_name(issuer.subject)}, which follows it.",
                subject="chain",
            )
    return facts


def check_for_clients(chain_pem: str) -> None:
    """Raise unless the leaf of a CA's answer, as `check_issue` passed it, is for TLS clients.

    Raises:
        BadIssue: for good: the next answer would be the same.
    """
    if not is_for_clients(_read_chain(chain_pem)[0]):
        raise BadIssue(
            "The CA's certificate is not for TLS clients (its extended key usage lacks clientAuth), so it is of no use"
            " for side serverToBackendMTLS. Public CAs issue for servers alone; let the built-in CA or another private"
            " one issue it.",
            subject="purpose",
            retry=NEVER,
        )


def _too_many(name: x509.Name, *, subject: str) -> BadMaterial:
    return BadMaterial(
        f"{subject}: too many certificates have the name '{format_name(name)[:200]}' to find out which of them issued"
        " the others. Give the certificate and its issuers only.",
        subject=subject,
    )


def _read_chain(chain_pem: str) -> tuple[x509.Certificate, ...]:
    blocks = read_blocks(chain_pem, subject="chain")
    for block in blocks:
        # RFC 8555 §11.4 and §9.1: the answer is certificates only. A key in it would be a trap.
        if not block.is_certificate:
            raise BadMaterial(f"chain: a block {make_printable(block.label)} is among the certificates.")
    if len(blocks) > MOST_SERVED:
        raise BadMaterial(f"chain: {len(blocks)} certificates; a chain has at most {MOST_SERVED}.", subject="chain")
    chain = load_certificates(blocks, subject="chain")
    check_signer_keys(chain, subject="chain")
    return chain


def _check_names(facts: CertificateFacts, *, identifiers: Sequence[str]) -> None:
    asked = {name.lower() for name in identifiers}
    given = {name.lower() for name in facts.san}
    if asked != given:
        differences = [
            *(f"{name} is missing" for name in sorted(asked - given)),
            *(f"{name} was not asked for" for name in sorted(given - asked)),
        ]
        raise BadIssue(f"The CA's certificate has other names: {', '.join(differences)}.", subject="san")


def _check_dates(facts: CertificateFacts, *, now: datetime) -> None:
    if facts.not_before > now + CLOCK_SKEW:
        raise BadIssue(
            f"The CA's certificate is valid only from {facts.not_before.isoformat()}; it is {now.isoformat()} here."
            " Check the clock.",
            subject="dates",
        )
    if facts.not_after < now + LEAST_LIFE:
        raise BadIssue(
            f"The CA's certificate ends at {facts.not_after.isoformat()}; it is {now.isoformat()} here. Check the"
            " clock.",
            subject="dates",
        )


def _preference(certificate: x509.Certificate) -> tuple[bool, datetime, bytes]:
    return (
        certificate.issuer != certificate.subject,
        certificate.not_valid_after_utc,
        certificate.public_bytes(Encoding.DER),
    )
