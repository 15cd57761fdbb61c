"""Structured logs: one event per line, for machines (JSON) or people; secrets are taken out of every line.

Everything that logs through the standard library (uvicorn, the workflow engine, SQLAlchemy) goes through the same
processors, so its lines look the same and lose their secrets too.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogStyle = Literal["json", "console"]

HIDDEN = "<hidden>"
_DEEPEST = 8  # levels of nested values; deeper ones are hidden as a whole
_SECRET_FIELDS = frozenset(
    {
        "authorization",
        "bootstrap_api_key",
        "cookie",
        "eab_hmac_key",
        "hmac_key",
        "key_authorization",
        "key_encryption_key",
        "password",
        "private_key",
        "secret",
        "x-pfx-password",
    }
)
# To the end of the text where the END line is missing: a cut key is still most of a key. Line ends may be escaped.
# Our own sentences say how a key has to look: "-----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY-----".
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?! and -----END).*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_AUTHORIZATION = re.compile(r"\b(basic|bearer)\s+[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)
_API_KEY = re.compile(r"co_[A-Za-z0-9_-]{43}")
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")
_QUIETER = {
    "uvicorn.access": logging.CRITICAL,
    "aiohttp.access": logging.CRITICAL,
    "asyncio": logging.WARNING,
    "alembic": logging.WARNING,
    # Their debug lines hold requests to DNS providers, tokens and all.
    "boto3": logging.WARNING,
    "botocore": logging.WARNING,
    "lexicon": logging.WARNING,
    "urllib3": logging.WARNING,
}


def set_up_logs(*, level: str, style: LogStyle, stream: TextIO | None = None) -> None:
    """Send all logs of the process to the stream (standard error by default). May be called again.

    level: debug, info, warning or error.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:-1], structlog.stdlib.ExtraAdder(), shared[-1]],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                hide_secrets,
                _renderer(style),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _QUIETER.items():
        logging.getLogger(name).setLevel(least)


def hide_secrets(logger: WrappedLogger | None, method: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's
    """Return the event without anything that looks like a private key, a password or an API key.

    It is the last processor before the renderer, so tracebacks pass it too. It is a net: the code that logs has to
    leave secrets out by itself.
    """
    # `color_message` is uvicorn's second copy of its own message, for terminals.
    return {name: _hide(value, name=name, depth=0) for name, value in event.items() if name != "color_message"}


def hide_in_text(text: str) -> str:
    """Return the text with private keys, authorization values, API keys and passwords in URLs taken out."""
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _AUTHORIZATION.sub(rf"\1 {HIDDEN}", text)
    text = _API_KEY.sub(HIDDEN, text)
    return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)


def _hide(value: object, *, name: str, depth: int) -> Any:
    if name.lower() in _SECRET_FIELDS or depth > _DEEPEST:
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return hide_in_text(value)
    if isinstance(value, Mapping):
        return {str(key): _hide(inner, name=str(key), depth=depth + 1) for key, inner in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray | memoryview):
        return [_hide(inner, name="", depth=depth + 1) for inner in value]
    return hide_in_text(repr(value))


def _renderer(style: LogStyle) -> Processor:
    if style == "console":
        return structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.processors.JSONRenderer(serializer=_dump)


def _dump(event: object, **_options: object) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")
