"""What the connected proxies said to secrets, taken together. Everything here is pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from certorbit.targets.envoy.messages import Secret
from certorbit.targets.envoy.session import Answer, Session


@dataclass(frozen=True, slots=True)
class Tally:
    """refusal: the first one's words; "" if there is none. pending: who has not said anything yet."""

    refusal: str
    pending: tuple[str, ...]


def find_askers(sessions: Iterable[Session], secrets: Sequence[Secret]) -> list[Session]:
    """Return the streams that want one of the secrets."""
    names = {secret.name for secret in secrets}
    return [session for session in sessions if not names.isdisjoint(session.names)]


def tally(sessions: Iterable[Session], secrets: Sequence[Secret]) -> Tally:
    """Return how far the streams that want the secrets have come with these versions."""
    pending: dict[str, None] = {}
    for session in find_askers(sessions, secrets):
        for secret in secrets:
            if secret.name not in session.names:
                continue
            answer, said = session.answer_to(secret)
            if answer is Answer.REFUSED:
                return Tally(f"{session}: {said}", ())
            if answer is Answer.PENDING:
                pending[str(session)] = None
    return Tally("", tuple(pending))


def find_unchecking(sessions: Collection[Session], name: str, *, beside: Collection[str]) -> Sequence[str]:
    """Return the proxies that want one of the secrets `beside` and, by none of their streams, the one of this name.

    An Envoy opens a stream for each secret. Its node id tells which belong together.
    """
    wanting = {_who(session) for session in sessions if not set(beside).isdisjoint(session.names)}
    return sorted(wanting - {_who(session) for session in sessions if name in session.names})


def _who(session: Session) -> str:
    return session.node or session.peer
