"""What an API key may be called: its name stands in the history and the audit trail, where others' names stand, too."""

import unicodedata
from typing import Final

from certorbit.errors import BadInput
from certorbit.model.audit import SERVICE_ACTOR

PERSON_PREFIX: Final = "oidc:"  # of people who signed in (model/session.py)
_LONGEST: Final = 100  # characters


def check_key_name(name: str) -> None:
    """Raise unless people can read the name, and take it for nobody else's.

    Raises:
        BadInput: it is empty, too long, holds what nobody sees, or looks like a person's or the service's.
    """
    if not name or len(name) > _LONGEST:
        raise BadInput(f"name: give the key a name of 1 to {_LONGEST} characters.", subject="name")
    if not name.isprintable():  # among what isn't: direction marks, which turn a line of the history around
        raise BadInput("name: leave out control and format characters, which nobody sees.", subject="name")
    plain = unicodedata.normalize("NFKC", name).casefold()
    if plain.startswith(PERSON_PREFIX) or plain == SERVICE_ACTOR.name:
        raise BadInput(
            f"name: {name!r} would look like somebody else in the history: {PERSON_PREFIX} begins the names of people"
            f" who signed in, and {SERVICE_ACTOR.name} is the service itself. Give another one.",
            subject="name",
        )
