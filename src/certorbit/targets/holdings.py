"""What listeners of file-based targets hold, as a value: the copies in the store, who is attached, who is default."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.site import ClientCertificateMode

# A DNS name as SNI and nginx's configuration can have it; uploads may name anything.
_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_PATH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}/[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A version in the store. fingerprint: lower-case hex SHA-256. names: DNS names, lower-case, each once."""

    fingerprint: str
    names: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class ClientCheck:
    """How a listener checks its clients. digest: the policy's. has_lists: whether revocation lists belong to it."""

    mode: ClientCertificateMode
    digest: str
    has_lists: bool

    @classmethod
    def of(cls, policy: ClientPolicy) -> "ClientCheck":
        return cls(policy.mode, policy.digest, bool(policy.crl_pem))


@dataclass(frozen=True, slots=True)
class Holdings:
    """A listener with its store. Paths are `<configuration>/<entry>`.

    attached: all that the listener serves, the default one too; what was attached later wins where both have a name.
    default: "" for none. clients: None where it asks clients for no certificate.
    """

    copies: Mapping[str, Leaf] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    default: str = ""
    clients: ClientCheck | None = None

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(path for path in self.attached if path != self.default)

    def install(self, path: str, leaf: Leaf) -> "Holdings":
        return replace(self, copies={**self.copies, path: leaf})

    def attach(self, path: str, *, instead_of: str, room: int, listener: str) -> "Holdings":
        """Raises TargetGone (no such copy), TargetFull (more than `room` beside the default)."""
        self._check_copy(path, listener=listener)
        replaced = instead_of if instead_of in self.attached and instead_of != path else ""
        if path in self.attached and not replaced:
            return self
        default = path if replaced and replaced == self.default else self.default
        attached = (*(other for other in self.attached if other not in {path, replaced}), path)
        after = replace(self, attached=attached, default=default)
        if len(after.others) > room:
            raise TargetFull(
                f"{listener} takes {room} certificates beside its default and has them. Detach one first.",
                subject=listener,
            )
        return after

    def set_default(self, path: str, *, listener: str) -> "Holdings":
        """Raises TargetGone: no such copy."""
        self._check_copy(path, listener=listener)
        if path == self.default:
            return self
        attached = (*(other for other in self.others if other != path), path)
        return replace(self, attached=attached, default=path)

    def detach(self, path: str, *, listener: str) -> "Holdings":
        """Raises TargetRefused: it is the default."""
        if path and path == self.default:
            raise TargetRefused(
                f"{path} is the default certificate of {listener}. Make another one the default first.",
                subject=listener,
            )
        return replace(self, attached=tuple(other for other in self.attached if other != path))

    def remove(self, path: str, *, listener: str) -> "Holdings":
        """Raises TargetRefused: it is attached."""
        if path in self.attached:
            raise TargetRefused(f"{path} is still served by {listener}. Detach it first.", subject=listener)
        return replace(self, copies={other: leaf for other, leaf in self.copies.items() if other != path})

    def check_clients(self, check: ClientCheck | None) -> "Holdings":
        return replace(self, clients=check)

    def owner_of_names(self) -> dict[str, str]:
        """Return which attached copy serves each name."""
        return {name: path for path in self.attached for name in self.copies[path].names}

    def _check_copy(self, path: str, *, listener: str) -> None:
        if path not in self.copies:
            raise TargetGone(f"The store of {listener} has no copy of that certificate. Install it again.")


def usable_names(san: Sequence[str]) -> tuple[str, ...]:
    """Return the DNS names that a client can ask for by SNI; addresses and odd text are none."""
    lower = (name.lower() for name in san)
    return tuple(dict.fromkeys(name for name in lower if len(name) <= 253 and _NAME.fullmatch(name)))


def is_path(text: str) -> bool:
    return _PATH.fullmatch(text) is not None


def write_holdings(holdings: Holdings) -> dict[str, Any]:
    """Return them as JSON has them; `read_holdings` reads that."""
    written = {
        "default": holdings.default,
        "attached": list(holdings.attached),
        "copies": {
            path: {"version": leaf.version, "fingerprint": leaf.fingerprint, "names": list(leaf.names)}
            for path, leaf in sorted(holdings.copies.items())
        },
    }
    if (check := holdings.clients) is not None:
        written["clients"] = {"mode": check.mode.value, "digest": check.digest, "lists": check.has_lists}
    return written


def read_holdings(text: str) -> Holdings:
    """Return the holdings of a JSON text; other members of the object are left alone.

    Raises:
        ValueError: it isn't what we write.
    """
    try:
        read = json.loads(text)
        copies = {
            path: Leaf(
                fingerprint=_checked(leaf["fingerprint"], _FINGERPRINT),
                names=tuple(_checked(name, _NAME) for name in leaf["names"]),
                version=str(leaf["version"]),
            )
            for path, leaf in read["copies"].items()
            if _checked(path, _PATH)
        }
        attached = tuple(_checked(path, _PATH) for path in read["attached"])
        default = read["default"]
        clients = _read_check(read.get("clients"))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it is not what Certorbit writes") from error
    if not set(attached) <= set(copies) or default not in {"", *attached} or len(set(attached)) < len(attached):
        raise ValueError("it contradicts itself")
    return Holdings(copies=copies, attached=attached, default=default, clients=clients)


def _read_check(read: Any) -> ClientCheck | None:
    if read is None:
        return None
    mode = ClientCertificateMode(read["mode"])
    if mode is ClientCertificateMode.OFF or not isinstance(read["lists"], bool):
        raise ValueError("it is not what Certorbit writes")
    return ClientCheck(mode, _checked(read["digest"], _FINGERPRINT), read["lists"])


def _checked(text: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError("it is not what Certorbit writes")
    return text
