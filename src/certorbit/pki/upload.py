"""What people upload: PEM text in, checked and tidied material out (contract.md, Certificates, 'Upload').

Rules of ours where the contract is silent:

- The leaf is the certificate of the key; the chain is built from it, signature by signature. Certificates that are no
  part of that chain (another cross-sign, last year's leaf, an unrelated intermediate) are left out.
- A key may stand in `cert_body` when `private_key` is empty, and certificates in `private_key` are passed over:
  people paste one combined file into either field. A second, different key is refused.
- A CA bundle is put in path order: each CA before those that issued it; else it keeps its order. A key with it is
  refused: a CA's key has no business here. Its end is that of the CA that ends first.
- A certificate of side serverToBackendMTLS must be good for clients: what it is shown to refuses it else.
- Parameter blocks (EC, DH) are passed over; any other block (a request, PKCS#7, a CRL) is refused by its name.
"""

from collections.abc import Sequence
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from certorbit.errors import BadMaterial
from certorbit.model.entry import Side
from certorbit.model.material import Material
from certorbit.pki.chain import MOST_SERVED, is_issued_by, order_bundle, order_chain, pick_leaf
from certorbit.pki.pem import PEMBlock, load_certificates, read_blocks, write_certificates
from certorbit.pki.private_key import ServableKey, read_uploaded_key, write_key
from certorbit.pki.public_key import LEAST_RSA_BITS, find_key_fault, find_public_key, hash_public_key
from certorbit.pki.purposes import find_authority_fault, is_for_clients
from certorbit.pki.read import format_name, make_printable, read_facts
from certorbit.pki.signer_keys import check_signer_keys

MOST_AUTHORITIES = 256  # of a bundle: more than any public collection of roots has
_BODY = "cert_body"
_KEY = "private_key"
_PARAMETERS = frozenset({"EC PARAMETERS", "DH PARAMETERS", "X9.42 DH PARAMETERS", "DSA PARAMETERS"})
_REQUEST = "a signing request, not a certificate. Give what the CA sent back"
_ADVICE = {
    "CERTIFICATE REQUEST": _REQUEST,
    "NEW CERTIFICATE REQUEST": _REQUEST,
    "PKCS7": "a PKCS#7 store. Unpack it: openssl pkcs7 -print_certs -in file.p7b",
    "X509 CRL": "a revocation list. Give it in crl",
    "PUBLIC KEY": "a public key. Give certificates and a private key",
    "TRUSTED CERTIFICATE": "in OpenSSL's own form. Convert it: openssl x509 -in file.pem",
}


def read_upload(cert_body: str, private_key: str, *, side: Side) -> Material:
    """Return the uploaded material, checked and tidied. Takes up to 250 ms of CPU (RSA): call it in a thread.

    Args:
        cert_body, private_key: PEM text in any order with anything around the blocks; at most 256 KiB each.
        side: a serving side needs a key that fits the leaf; a CA side takes CA certificates and no key.

    Raises:
        BadMaterial: `subject` is the field, the message says what is wrong with it and what to do.
    """
    blocks = read_blocks(cert_body, subject=_BODY)
    key_blocks = read_blocks(private_key, subject=_KEY)
    _check_labels(blocks, subject=_BODY)
    if side.is_ca_bundle:
        return _read_bundle(blocks, has_key=bool(private_key.strip()))
    _check_labels(key_blocks, subject=_KEY)
    certificates = tuple(dict.fromkeys(load_certificates(blocks, subject=_BODY)))
    if len(certificates) > MOST_SERVED:
        raise BadMaterial(
            f"cert_body: {len(certificates)} certificates; a chain has at most {MOST_SERVED}. Give the certificate"
            " and its issuers only.",
            subject=_BODY,
        )
    key = _read_key(blocks, key_blocks, text=private_key)
    leaf = _find_leaf(certificates, key)
    if side is Side.SERVER_TO_BACKEND_MTLS and not is_for_clients(leaf):
        raise BadMaterial(
            f"cert_body: {_name(leaf)} is not for TLS clients (its extended key usage lacks clientAuth), so backends"
            " would refuse it. Have one issued with clientAuth, as the built-in CA does; public CAs don't any more.",
            subject=_BODY,
        )
    return Material(
        chain_pem=write_certificates(order_chain(certificates, leaf=leaf)), key=write_key(key), facts=read_facts(leaf)
    )


def _check_labels(blocks: Sequence[PEMBlock], *, subject: str) -> None:
    for block in blocks:
        if block.is_certificate or block.is_private_key or block.label in _PARAMETERS:
            continue
        advice = _ADVICE.get(block.label, "of no use here. Leave it out")
        raise BadMaterial(
            f"{subject}: block {block.number} ({make_printable(block.label)}) is {advice}.", subject=subject
        )


def _read_bundle(blocks: Sequence[PEMBlock], *, has_key: bool) -> Material:
    if has_key or any(block.is_private_key for block in blocks):
        subject = _KEY if has_key else _BODY
        raise BadMaterial(
            f"{subject}: a CA bundle is kept without a key. Leave the private key out; it should stay with the CA.",
            subject=subject,
        )
    certificates = tuple(dict.fromkeys(load_certificates(blocks, subject=_BODY)))
    if len(certificates) > MOST_AUTHORITIES:
        raise BadMaterial(
            f"cert_body: {len(certificates)} certificates; a bundle has at most {MOST_AUTHORITIES}.", subject=_BODY
        )
    for certificate in certificates:
        _check_authority(certificate)
    check_signer_keys(certificates, subject=_BODY)  # for the lists that come with it
    ordered = order_bundle(certificates)
    ends = min(certificate.not_valid_after_utc for certificate in ordered)
    facts = replace(read_facts(ordered[0]), not_after=ends)
    return Material(chain_pem=write_certificates(ordered), key=None, facts=facts)


def _check_authority(certificate: x509.Certificate) -> None:
    facts = read_facts(certificate)
    if not facts.is_ca:
        raise BadMaterial(
            f"cert_body: {_name(certificate)} is not a CA certificate (CA:TRUE is missing). Give the certificates of"
            " the CAs alone.",
            subject=_BODY,
        )
    if fault := find_authority_fault(certificate):
        raise BadMaterial(f"cert_body: {_name(certificate)} {fault}. Leave it out.", subject=_BODY)
    key = certificate.public_key()
    # Any other kind of key is the verifier's matter: a CA's key is never served.
    if isinstance(key, RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        raise BadMaterial(f"cert_body: {_name(certificate)}: {find_key_fault(key)}.", subject=_BODY)


def _read_key(blocks: Sequence[PEMBlock], key_blocks: Sequence[PEMBlock], *, text: str) -> ServableKey:
    given = [block for block in key_blocks if block.is_private_key]
    pasted = [block for block in blocks if block.is_private_key]
    if text.strip() and not given:
        raise BadMaterial(
            "private_key: no private key found. Give PEM text, with the lines -----BEGIN PRIVATE KEY----- and"
            " -----END PRIVATE KEY-----.",
            subject=_KEY,
        )
    if not given and not pasted:
        raise BadMaterial("private_key: it is missing; a certificate that serves needs its key.", subject=_KEY)
    key = _read_single(given or pasted, subject=_KEY if given else _BODY)
    if given and pasted:
        other = _read_single(pasted, subject=_BODY)
        if hash_public_key(other.public_key()) != hash_public_key(key.public_key()):
            raise BadMaterial(
                "cert_body: it holds another private key than private_key. Give the one that fits.", subject=_BODY
            )
    return key


def _read_single(blocks: Sequence[PEMBlock], *, subject: str) -> ServableKey:
    if len({block.der for block in blocks}) > 1:
        raise BadMaterial(f"{subject}: {len(blocks)} private keys; give the one that fits.", subject=subject)
    return read_uploaded_key(blocks[0], subject=subject)


def _find_leaf(certificates: Sequence[x509.Certificate], key: ServableKey) -> x509.Certificate:
    """Return the certificate of the key; of several with the same key `pick_leaf` chooses."""
    wanted = hash_public_key(key.public_key())
    matching = [certificate for certificate in certificates if _key_hash(certificate) == wanted]
    if not matching:
        raise BadMaterial(
            f"private_key: it does not fit the certificate {_name(pick_leaf(certificates))}. Give the key that this"
            " certificate was requested with.",
            subject=_KEY,
        )
    leaf = pick_leaf(matching)
    for certificate in certificates:
        if certificate not in matching and is_issued_by(certificate, leaf):
            raise BadMaterial(
                f"private_key: it belongs to {_name(leaf)}, the issuer of {_name(certificate)}. Give the key of the"
                " latter.",
                subject=_KEY,
            )
    return leaf


def _key_hash(certificate: x509.Certificate) -> str:
    key = find_public_key(certificate)
    return hash_public_key(key) if key is not None else ""


def _name(certificate: x509.Certificate) -> str:
    """Return the certificate's subject in quotation marks, or its serial number when it has none."""
    name = format_name(certificate.subject)
    return f"'{name[:200]}'" if name else f"with serial {certificate.serial_number:x}"
