"""What one proxy's stream asked for, was sent and said to it: the xDS protocol without its transport.

State of the world and delta differ in how a proxy asks; what is sent is the same: secrets that it asked for and does
not have in this version. One push at a time is under way on a stream; the next one leaves when the proxy has answered,
so that a slow proxy gets the newest version only and no queue grows.
Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, "ACK/NACK and resource type instance
version", "Subscribing to Resources", "Incremental xDS".
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from certorbit.errors import TargetRefused
from certorbit.pki.read import make_printable
from certorbit.targets.envoy.messages import SECRET_TYPE, Ask, DeltaAsk, Push, Secret

log = structlog.get_logger(__name__)

Catalog = Mapping[str, Secret]
MOST_NAMES: Final = 1000  # of one stream; an Envoy opens one stream per secret
_LONGEST_TEXT: Final = 400


class Answer(StrEnum):
    """What a proxy said to a secret's version."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class _Told:
    version: str
    refusal: str


class Session:
    """One stream. target: for the log. is_delta: which of the two protocols."""

    def __init__(self, *, target: str, peer: str, is_delta: bool) -> None:
        self.node = ""
        self.peer = peer
        self.is_delta = is_delta
        self.woken = asyncio.Event()
        self._target = target
        self._names: dict[str, None] = {}  # in the order asked for
        self._sent: dict[str, str] = {}
        self._told: dict[str, _Told] = {}
        self._missing: set[str] = set()  # asked for, not there, and said so
        self._underway: dict[str, str] | None = None  # versions of the push that isn't answered yet
        self._turn = 0
        self._is_new = True

    def __str__(self) -> str:
        return f"{self.node or 'a proxy without node id'} ({self.peer})"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def hear(self, ask: Ask) -> None:
        """Take in a state-of-the-world request: all names that the proxy wants from now on.

        Raises:
            TargetRefused: it asks for other things than secrets, or for too many.
        """
        self._greet(ask.node, ask.type_url)
        if not self._take_answer(ask.nonce, ask.error):
            return  # To an older response; the names come again with the answer to the newest.
        wanted = dict.fromkeys(ask.names)
        if wanted.keys() != self._names.keys():
            self._sent.clear()  # "the management server must provide all of them" when the set of names changes
            self._told.clear()
        self._subscribe(wanted)

    def hear_delta(self, ask: DeltaAsk) -> None:
        """Take in an incremental request. Raises TargetRefused like `hear`."""
        is_first, self._is_new = self._is_new, False
        self._greet(ask.node, ask.type_url)
        if ask.nonce:
            self._take_answer(ask.nonce, ask.error)
        for name in ask.unsubscribe:
            self._forget(name)
        for name in ask.subscribe:
            self._forget(name)  # What is subscribed to again is sent again.
        self._subscribe(self._names | dict.fromkeys(ask.subscribe))
        if is_first:
            kept = {name: version for name, version in ask.held.items() if name in self._names}
            self._sent.update(kept)
            self._told.update({name: _Told(version, "") for name, version in kept.items()})

    def next_push(self, catalog: Catalog) -> Push | None:
        """Return what the proxy is to be sent now, or None. It counts as sent."""
        if self._underway is not None:
            return None
        due = tuple(
            secret for name in self._names if (secret := catalog.get(name)) and self._sent.get(name) != secret.version
        )
        absent = {name for name in self._names if name not in catalog and name != "*"}
        missing = tuple(sorted(absent - self._missing)) if self.is_delta else ()
        self._report_missing(absent - self._missing)
        self._missing = absent
        if not due and not missing:
            return None
        self._turn += 1
        versions = {secret.name: secret.version for secret in due}
        self._sent.update(versions)
        self._underway = versions
        return Push(version=digest(catalog, self._names), nonce=str(self._turn), secrets=due, missing=missing)

    def answer_to(self, secret: Secret) -> tuple[Answer, str]:
        """Return what the proxy said to this version of a secret, and its words if it refused."""
        told = self._told.get(secret.name)
        if told is None or told.version != secret.version:
            return Answer.PENDING, ""
        return (Answer.REFUSED, told.refusal) if told.refusal else (Answer.ACCEPTED, "")

    def refusals(self) -> Mapping[str, str]:
        """Return the proxy's words by secret, where its last word was no."""
        return {name: told.refusal for name, told in self._told.items() if told.refusal}

    def missing(self) -> Iterable[str]:
        """Return the names that the proxy wants and that are not ours."""
        return sorted(self._missing)

    def _greet(self, node: str, type_url: str) -> None:
        if type_url and type_url != SECRET_TYPE:
            raise TargetRefused("This server has secrets only.", subject=self._target)
        self.node = self.node or _one_line(node)[:100]

    def _subscribe(self, names: dict[str, None]) -> None:
        if len(names) > MOST_NAMES:
            raise TargetRefused(f"At most {MOST_NAMES} secrets can be asked for on a stream.", subject=self._target)
        self._names = names

    def _forget(self, name: str) -> None:
        self._names.pop(name, None)
        self._sent.pop(name, None)
        self._told.pop(name, None)
        self._missing.discard(name)

    def _take_answer(self, nonce: str, error: str) -> bool:
        """Note the answer to the push under way; False if the nonce is that of an older one."""
        if self._turn and nonce != str(self._turn):
            return False
        versions, self._underway = self._underway, None
        if versions is None:
            return True
        refusal = _one_line(error)[:_LONGEST_TEXT]
        self._told.update({name: _Told(version, refusal) for name, version in versions.items() if name in self._names})
        if refusal:
            log.warning(
                "envoy.refused",
                target=self._target,
                node=self.node,
                peer=self.peer,
                secrets=list(versions),
                said=refusal,
            )
        else:
            log.debug("envoy.accepted", target=self._target, node=self.node, peer=self.peer, secrets=list(versions))
        return True

    def _report_missing(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            log.warning(
                "envoy.unknown_secret",
                target=self._target,
                node=self.node,
                peer=self.peer,
                secret=_one_line(name)[:100],
            )


def digest(catalog: Catalog, names: Iterable[str]) -> str:
    """Return one version for the state of several secrets."""
    text = "\n".join(f"{name} {catalog[name].version}" for name in sorted(names) if name in catalog)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _one_line(text: str) -> str:
    return " ".join(make_printable(text).split())
