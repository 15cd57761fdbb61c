"""The shapes of errors, stated once (contract.md, Errors)."""

from api.server import Answer

PEM_KEY = "PRIVATE KEY"


def assert_error(answer: Answer, status: int, *, says: str = "") -> None:
    """An error is `{"code", "message"}`, its code is the status, and it shows neither a key nor our insides."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    document = answer.json
    if status == 503:
        assert set(document) == {"code", "message", "detail", "data"}
        assert document["data"] == {"message": document["message"]}
    else:
        assert set(document) == {"code", "message"}
    assert document["code"] == status
    assert says in document["message"]
    _assert_says_nothing_else(answer)


def assert_validation(answer: Answer, *loc: str | int) -> None:
    """A validation error is `{"detail": [{"loc", "msg", "type"}]}` and never quotes the input."""
    assert answer.status == 422, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == {"detail"}
    items = answer.json["detail"]
    assert items
    for item in items:
        assert set(item) == {"loc", "msg", "type"}
        assert isinstance(item["loc"], list)
    assert list(loc) in [item["loc"] for item in items]
    _assert_says_nothing_else(answer)


def _assert_says_nothing_else(answer: Answer) -> None:
    text = answer.body.decode()
    assert PEM_KEY not in text
    assert "Traceback" not in text
    assert "co_" not in text
