"""PEM as HAProxy takes it: key and chain in one text without empty lines, and the digests of its leaf."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from certorbit.model.balancer import Bundle


@dataclass(frozen=True, slots=True)
class LeafDigests:
    """Lower-case hex digests of a leaf's DER. sha1 is what HAProxy shows; it only tells versions apart."""

    sha1: str
    sha256: str


NO_LEAF = LeafDigests("", "")


def combine(bundle: Bundle) -> str:
    """Return key and chain as one PEM text.

    An empty line would end a payload of the runtime API in the middle (HAProxy's management guide, 9.3), so there is
    none, whatever the chain's text looks like.
    """
    lines = f"{bundle.key.reveal()}\n{bundle.chain_pem}".splitlines()
    return "".join(f"{line.strip()}\n" for line in lines if line.strip())


def read_leaf(text: str) -> LeafDigests:
    """Return the digests of the first certificate in the text; `NO_LEAF` if there is none that can be read."""
    try:
        leaf = x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        return NO_LEAF
    return LeafDigests(leaf.fingerprint(SHA1()).hex(), leaf.fingerprint(SHA256()).hex())  # noqa: S303 - see the class
