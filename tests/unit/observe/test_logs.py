"""No log line holds a secret, whoever wrote it and however."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from certorbit.observe.logs import HIDDEN, hide_in_text, hide_secrets, set_up_logs

KEY = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n-----END EC PRIVATE KEY-----"
API_KEY = "co_" + "x" * 43
SECRETS = ("c2VjcmV0", API_KEY, "hunter2hunter2hunter2")


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, before, text = root.handlers[:], root.level, structlog.get_config(), io.StringIO()
    set_up_logs(level="info", style=request.param, stream=text)
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"text": KEY}, id="a PEM key"),
        pytest.param({"text": KEY.replace("\n", "\\n")}, id="a PEM key with escaped line ends"),
        pytest.param({"text": KEY.partition("-----END")[0]}, id="a key without its end"),
        pytest.param({"text": KEY.replace("EC ", "ENCRYPTED ")}, id="another label"),
        pytest.param({"deep": {"er": [{"est": (KEY,)}]}}, id="nested"),
        pytest.param({"raw": KEY.encode()}, id="bytes"),
        pytest.param({"error": ValueError(KEY)}, id="an exception"),
        pytest.param({"header": f"Basic {API_KEY}"}, id="an authorization value"),
        pytest.param({"header": "bearer hunter2hunter2hunter2"}, id="another scheme"),
        pytest.param({"text": f"the key is {API_KEY}."}, id="an API key in prose"),
        pytest.param({"private_key": "hunter2hunter2hunter2"}, id="a field by its name"),
        pytest.param({"headers": {"X-PFX-Password": "hunter2hunter2hunter2"}}, id="a header by its name"),
        pytest.param({"url": "postgresql://me:hunter2hunter2hunter2@db/x"}, id="a password in a URL"),
    ],
)
def test_secrets_are_taken_out(fields: dict[str, object], lines: io.StringIO) -> None:
    structlog.get_logger("test").info("event", **fields)
    text = lines.getvalue()
    assert "event" in text
    assert HIDDEN in text
    for secret in SECRETS:
        assert secret not in text


def test_a_traceback_loses_its_secrets_and_keeps_the_rest(lines: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError(f"could not read {KEY}")

    try:
        fail()
    except ValueError:
        structlog.get_logger("test").exception("went.wrong")
    text = lines.getvalue()
    assert "Traceback" in text
    assert "could not read" in text
    assert "c2VjcmV0" not in text


def test_the_standard_librarys_loggers_go_the_same_way(lines: io.StringIO) -> None:
    logging.getLogger("foreign").warning("read %s", KEY)
    text = lines.getvalue()
    assert "foreign" in text
    assert "c2VjcmV0" not in text


def test_lines_under_the_level_are_left_out(lines: io.StringIO) -> None:
    structlog.get_logger("test").debug("quiet")
    logging.getLogger("foreign").debug("quiet")
    assert lines.getvalue() == ""


def test_plain_values_stay_as_they_are() -> None:
    event = {
        "event": "order.placed",
        "count": 3,
        "ok": True,
        "none": None,
        "names": ["a", "b"],
        "cert": "-----BEGIN CERTIFICATE-----",
    }
    assert hide_secrets(None, "info", dict(event)) == event


def test_what_goes_on_for_ever_is_cut() -> None:
    endless: dict[str, object] = {}
    endless["again"] = endless
    assert HIDDEN in json.dumps(hide_secrets(None, "info", {"endless": endless}))


def test_hiding_twice_is_hiding_once() -> None:
    once = hide_in_text(f"{KEY} Basic {API_KEY} postgresql://me:pw@db/x")
    assert hide_in_text(once) == once
