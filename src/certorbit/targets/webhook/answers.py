"""What an endpoint may answer. Anything else is an error: a misunderstanding would be a wrong certificate somewhere."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Handle = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[\x21-\x7e]+$")]
OptionalHandle = Annotated[str, Field(max_length=1024, pattern=r"^[\x21-\x7e]*$")]
A = TypeVar("A", bound="Answer")


class Answer(BaseModel):
    """A JSON object; an unknown member is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Done(Answer):
    """The answer to attach, set_default, detach and remove: an empty object."""


class Installed(Answer):
    handle: Handle
    link: Handle


class HeldByListener(Answer):
    """default: "" for none. certificates: without the default."""

    listener: str
    port: int
    default: OptionalHandle
    certificates: list[Handle] = Field(max_length=100_000)


class Discovered(Answer):
    listeners: list[HeldByListener] = Field(max_length=10_000)


class ListedCopy(Answer):
    """fingerprint: lower-case hex SHA-256 of the leaf's DER, "" if the endpoint doesn't know."""

    handle: Handle
    fingerprint: str = Field(pattern=r"^([0-9a-f]{64})?$")


class Listed(Answer):
    copies: list[ListedCopy] = Field(max_length=100_000)


def read_answer(content: bytes, form: type[A]) -> A:
    """Return the answer in its form; no content is an empty object.

    Raises:
        ValueError: it isn't in that form; the message says where, and repeats nothing of it.
    """
    try:
        return form.model_validate_json(content.strip() or b"{}")
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors(include_url=False, include_input=False, include_context=False)[0])
        where = ".".join(str(part) if isinstance(part, int) else part[:40] for part in first["loc"])
        raise ValueError(f"{where or 'the answer'}: {first['msg']}") from error
