"""What the built-in CA shows to everybody: its root, and its CRL."""

from typing import Protocol


class AuthorityDoor(Protocol):
    async def root_pem(self) -> str:
        """Return the root certificate to trust, PEM."""
        ...

    async def crl_der(self) -> bytes:
        """Return the present CRL of the issuing certificate, DER; made anew when half of its validity is over."""
        ...


class OwnRevocations(Protocol):
    """What the built-in CA shows to our own look at revocations: the guard would not let us fetch it from ourselves."""

    async def issuing_pem(self) -> str:
        """Return the certificate that signs leaves and the CRL, PEM."""
        ...

    async def crl_der(self) -> bytes:
        """See `AuthorityDoor.crl_der`."""
        ...
