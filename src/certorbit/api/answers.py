"""Answers: JSON by orjson, messages, files to download, and how instants are written."""

from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response


class JSONAnswer(Response):
    """A JSON body, encoded once from plain values: no validation of our own output, no second copy."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def message_answer(text: str, *, status: int = 200) -> Response:
    """Return `{"message": text}`; without a body if the text is empty."""
    if not text:
        return Response(status_code=status)
    return JSONAnswer({"message": text}, status_code=status)


def download(content: str | bytes, *, media_type: str, file_name: str) -> Response:
    """Return a file to be saved. file_name: `[a-z0-9.-]` only, so it needs no quoting."""
    answer = Response(content, headers={"content-disposition": f'attachment; filename="{file_name}"'})
    answer.headers["content-type"] = media_type  # as it stands: Response would add a charset to text types
    return answer


def format_instant(instant: datetime) -> str:
    """Return RFC 3339 in UTC with milliseconds and `Z` (the seed's form)."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def format_optional(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)
