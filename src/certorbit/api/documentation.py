"""How routes are described in OpenAPI: the answers by status, and who may call."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from certorbit.api.schemas import ErrorBody, MessageBody, UnavailableBody, ValidationBody

Responses = dict[int | str, dict[str, Any]]

_ERRORS: Mapping[int, tuple[str, type[BaseModel]]] = {
    400: ("Input Error: what was wrong, which input, what to do", ErrorBody),
    401: ("No API key, or one that is not known", ErrorBody),
    404: ("There is no such thing", ErrorBody),
    409: ("The id is taken by something that was made from other input", ErrorBody),
    413: ("The request body is over the limit", ErrorBody),
    422: ("Validation Error: an input is not of its type", ValidationBody),
    429: ("Too many unknown API keys came from this address; Retry-After says when to try again", ErrorBody),
    500: ("Internal Server Error: the message has a reference into the service's log", ErrorBody),
    503: ("The database or a publish is busy: try again with backoff", UnavailableBody),
}
_FORBIDDEN = {
    "description": "The key has no right for this; or the service is in maintenance, then without `code`",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": f"#/components/schemas/{ErrorBody.__name__}"},
                    {"$ref": f"#/components/schemas/{MessageBody.__name__}"},
                ]
            }
        }
    },
}
SECURED: dict[str, Any] = {"security": [{"apiKey": []}, {"bearer": []}, {"session": []}]}
PUBLIC: dict[str, Any] = {"security": []}


def answers_json(description: str, model: type[BaseModel] | None, *errors: int, status: int = 200) -> Responses:
    """Return the description of a secured operation that answers with this model (None: no body)."""
    success: dict[str, Any] = {"description": description}
    if model is not None:
        success["model"] = model
    return {status: success, **errors_of(401, *errors, 429, 500, 503), 403: _FORBIDDEN}


def answers_file(description: str, media_type: str, *errors: int) -> Responses:
    """Return the description of a secured operation that answers with a file."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    success = {"description": description, "content": content}
    return {200: success, **errors_of(401, *errors, 429, 500, 503), 403: _FORBIDDEN}


def errors_of(*statuses: int) -> Responses:
    """Return the descriptions of these error statuses."""
    return {status: {"description": _ERRORS[status][0], "model": _ERRORS[status][1]} for status in statuses}


def takes_body(model: type[BaseModel], *, required: bool, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the description of a JSON body that the endpoint reads by itself."""
    schema: dict[str, Any] = {"$ref": f"#/components/schemas/{model.__name__}"}
    if default is not None:
        schema = {"allOf": [schema], "default": dict(default)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
