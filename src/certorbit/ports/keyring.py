"""The keyring: seals secrets at rest."""

from typing import Protocol


class Keyring(Protocol):
    """Seals with a fresh data key per secret, wrapped by the key-encryption key. Calls take microseconds.

    Safe to call from several threads. Nothing is kept of what was sealed or opened.
    """

    def seal(self, secret: bytes, *, context: str) -> bytes:
        """Return the envelope. `context` names the row that it belongs to and is needed to open it again."""
        ...

    def open(self, envelope: bytes, *, context: str) -> bytes:
        """Return the secret.

        Raises:
            Broken: the envelope was made for another context or by another key, or is damaged; the message says
                which key-encryption key it wants, never what is inside.
        """
        ...
