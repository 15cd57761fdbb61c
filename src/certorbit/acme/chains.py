"""The chain: its form, and which of several variants is taken (RFC 8555 §7.4.2)."""

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certorbit.acme.answer import Answer, rubbish

PEM_CHAIN = "application/pem-certificate-chain"


def read_chain(answer: Answer) -> str:
    """Return the downloaded chain as it came.

    What is in its certificates is judged by whoever stores them; here only that it is what was asked for.

    Raises:
        Unreachable: it isn't a PEM chain, or holds anything but certificates (RFC 8555 §9.1); phase "answer".
    """
    try:
        chain_pem = answer.body.decode("ascii")
    except UnicodeDecodeError:
        raise rubbish(answer, "no PEM chain") from None
    begins = chain_pem.count("-----BEGIN ")
    if begins == 0 or begins != chain_pem.count("-----BEGIN CERTIFICATE-----"):
        raise rubbish(answer, "no PEM chain of certificates alone")
    return chain_pem


def find_preferred(chains: Iterable[str], *, common_name: str) -> str | None:
    """Return the first chain whose topmost certificate has this common name as its issuer's or its own.

    None if there is none; a chain that can't be parsed is passed over.
    """
    return next((chain_pem for chain_pem in chains if common_name in _top_names(chain_pem)), None)


def leaf_der(chain_pem: str) -> bytes:
    """Return the first certificate as DER.

    Raises:
        ValueError: there is none.
    """
    return x509.load_pem_x509_certificate(chain_pem.encode()).public_bytes(Encoding.DER)


def _top_names(chain_pem: str) -> set[str]:
    try:
        top = x509.load_pem_x509_certificates(chain_pem.encode())[-1]
    except ValueError:
        return set()
    return {
        str(attribute.value)
        for name in (top.issuer, top.subject)
        for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)
    }
