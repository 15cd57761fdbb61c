"""The xDS protocol of one stream, without its transport: what is due when."""

from dataclasses import replace

import pytest

from certorbit.errors import TargetRefused
from certorbit.model.material import PrivateKeyPEM
from certorbit.targets.envoy.messages import Ask, DeltaAsk, Push, Secret, TLSCertificate
from certorbit.targets.envoy.session import Answer, Session

A, B = (
    Secret(
        name=name,
        version=f"{name}-1",
        content=TLSCertificate(chain_pem=f"chain {name}", key=PrivateKeyPEM(f"key {name}")),
    )
    for name in ("a", "b")
)
NEWER = replace(A, version="a-2")
CATALOG = {"a": A, "b": B}


def make_session(*, is_delta: bool = False) -> Session:
    return Session(target="edge", peer="ipv4:127.0.0.1:1", is_delta=is_delta)


def ask(*names: str, nonce: str = "", error: str = "") -> Ask:
    return Ask(node="edge-1", type_url="", names=names, nonce=nonce, error=error)


def delta_ask(*subscribe: str, **more) -> DeltaAsk:
    return DeltaAsk(node="", type_url="", subscribe=subscribe, **more)


def pushed(push: Push | None) -> tuple[str, ...]:
    return tuple(secret.version for secret in push.secrets) if push else ()


def test_nothing_is_due_before_something_is_asked_for() -> None:
    assert make_session().next_push(CATALOG) is None


def test_what_was_accepted_is_not_sent_again_and_only_what_changed_is() -> None:
    session = make_session()
    session.hear(ask("a", "b"))
    assert pushed(session.next_push(CATALOG)) == ("a-1", "b-1")
    session.hear(ask("a", "b", nonce="1"))
    assert session.next_push(CATALOG) is None
    assert pushed(session.next_push({**CATALOG, "a": NEWER})) == ("a-2",)


def test_a_refused_version_is_not_sent_again_and_the_one_before_is() -> None:
    session = make_session()
    session.hear(ask("a"))
    session.next_push(CATALOG)
    session.hear(ask("a", nonce="1"))
    session.next_push({"a": NEWER})
    session.hear(ask("a", nonce="2", error="no"))
    assert session.next_push({"a": NEWER}) is None
    assert session.answer_to(NEWER) == (Answer.REFUSED, "no")
    assert session.refusals() == {"a": "no"}
    assert pushed(session.next_push({"a": A})) == ("a-1",)
    session.hear(ask("a", nonce="3"))
    assert session.answer_to(A) == (Answer.ACCEPTED, "")
    assert session.refusals() == {}


def test_a_refusal_without_words_is_one() -> None:
    session = make_session()
    session.hear(ask("a"))
    session.next_push(CATALOG)
    session.hear(ask("a", nonce="1", error="no reason given"))
    assert session.answer_to(A)[0] is Answer.REFUSED


def test_one_push_is_under_way_and_the_next_one_has_the_newest() -> None:
    session = make_session()
    session.hear(ask("a"))
    session.next_push(CATALOG)
    assert session.next_push({"a": NEWER}) is None
    session.hear(ask("a", nonce="1"))
    assert pushed(session.next_push({"a": replace(A, version="a-3")})) == ("a-3",)


def test_an_answer_with_an_older_nonce_changes_nothing() -> None:
    session = make_session()
    session.hear(ask("a"))
    session.next_push(CATALOG)
    session.hear(ask("a", nonce="1"))
    session.next_push({"a": NEWER})
    session.hear(ask("b", nonce="1", error="late"))
    assert session.names == ("a",)
    assert session.answer_to(NEWER)[0] is Answer.PENDING


def test_a_nonce_of_another_stream_does_not_lock_a_proxy_out() -> None:
    session = make_session()
    session.hear(ask("a", nonce="17"))
    assert pushed(session.next_push(CATALOG)) == ("a-1",)


def test_names_that_are_not_ours_are_waited_for_in_silence() -> None:
    session = make_session()
    session.hear(ask("c"))
    assert session.next_push(CATALOG) is None
    assert list(session.missing()) == ["c"]
    assert pushed(session.next_push({"c": replace(A, name="c")})) == ("a-1",)
    assert list(session.missing()) == []


def test_delta_says_once_that_a_name_is_not_there() -> None:
    session = make_session(is_delta=True)
    session.hear_delta(delta_ask("a", "c", "*"))
    push = session.next_push(CATALOG)
    assert push is not None
    assert (pushed(push), push.missing) == (("a-1",), ("c",))
    session.hear_delta(delta_ask(nonce="1"))
    assert session.next_push(CATALOG) is None


def test_delta_unsubscribes() -> None:
    session = make_session(is_delta=True)
    session.hear_delta(delta_ask("a", "b"))
    session.next_push(CATALOG)
    session.hear_delta(delta_ask(nonce="1", unsubscribe=("a",)))
    assert session.next_push({**CATALOG, "a": NEWER}) is None
    assert session.names == ("b",)


def test_delta_trusts_held_versions_in_the_first_request_only() -> None:
    session = make_session(is_delta=True)
    session.hear_delta(delta_ask("a", held={"a": "a-1", "z": "1"}))
    assert session.next_push(CATALOG) is None
    assert session.answer_to(A) == (Answer.ACCEPTED, "")
    session.hear_delta(delta_ask("b", held={"b": "b-1"}))
    assert pushed(session.next_push(CATALOG)) == ("b-1",)


def test_hostile_texts_come_out_short_and_in_one_line() -> None:
    session = make_session()
    session.hear(Ask(node="edge\n\x00" + "n" * 500, type_url="", names=("a",)))
    session.next_push(CATALOG)
    session.hear(ask("a", nonce="1", error="no\r\n\x1b[31m" + "x" * 5000))
    assert len(session.node) <= 100
    assert session.node.isprintable()
    assert len(session.refusals()["a"]) <= 400
    assert session.refusals()["a"].isprintable()


def test_another_type_is_refused() -> None:
    with pytest.raises(TargetRefused):
        make_session().hear(Ask(node="", type_url="type.googleapis.com/x", names=()))


def test_no_text_of_a_session_has_a_key() -> None:
    session = make_session()
    session.hear(ask("a"))
    push = session.next_push(CATALOG)
    assert "key a" not in f"{push!r} {session} {session!r} {CATALOG!r}"
