"""A keyring without cryptography that keeps the port's promises: another context opens nothing."""

from certorbit.errors import Broken


class MemoryKeyring:
    """Seals by remembering. An envelope is a ticket; the secret never is in it."""

    def __init__(self) -> None:
        self._secrets: dict[bytes, tuple[str, bytes]] = {}

    def seal(self, secret: bytes, *, context: str) -> bytes:
        envelope = f"envelope-{len(self._secrets)}".encode()
        self._secrets[envelope] = (context, secret)
        return envelope

    def open(self, envelope: bytes, *, context: str) -> bytes:
        made_for, secret = self._secrets.get(envelope, ("", b""))
        if made_for != context:
            raise Broken(f"the envelope was not made for {context!r} by this keyring")
        return secret
