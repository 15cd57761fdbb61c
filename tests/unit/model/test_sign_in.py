"""What a browser keeps of a sign-in that it began."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certorbit.errors import BadInput
from certorbit.model.sign_in import MOST_TIME, begin, read_cookie
from records import NOW

SECRET = "s" * 43


def test_what_is_read_back_gives_the_same_values() -> None:
    attempt = begin(SECRET, goes_to="/auth/me?x=1#y", now=NOW)
    assert read_cookie(attempt.cookie(), now=NOW + 0.99 * MOST_TIME) == attempt
    values = [attempt.state, attempt.nonce, attempt.verifier, attempt.challenge]
    assert len(set(values)) == 4
    assert {len(value) for value in values} == {43}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_change_of_any_part_is_another_sign_in(place: int) -> None:
    attempt = begin(SECRET, goes_to="/docs", now=NOW)
    parts = attempt.cookie().split(".")
    other = begin("t" * 43, goes_to="/auth/me", now=NOW - MOST_TIME / 2).cookie().split(".")
    changed = read_cookie(".".join([*parts[:place], other[place], *parts[place + 1 :]]), now=NOW)
    assert changed is not None
    assert {changed.state, changed.nonce, changed.verifier}.isdisjoint({attempt.state, attempt.nonce, attempt.verifier})


def test_a_sign_in_is_over_after_its_time_and_none_is_of_the_future() -> None:
    cookie = begin(SECRET, goes_to="/docs", now=NOW).cookie()
    assert read_cookie(cookie, now=NOW + 0.99 * MOST_TIME) is not None
    assert read_cookie(cookie, now=NOW + 1.01 * MOST_TIME) is None
    assert read_cookie(cookie, now=NOW - MOST_TIME) is None


def test_the_secret_is_in_no_representation() -> None:
    assert SECRET not in repr(begin(SECRET, goes_to="/docs", now=NOW))


@given(st.text())
def test_no_text_makes_reading_a_cookie_fail(text: str) -> None:
    read_cookie(text, now=NOW)
    read_cookie(f"{SECRET}.{int(NOW.timestamp())}.{text}", now=NOW)


@given(st.text(alphabet="/\\:@.%?#\t\n\r a") | st.text())
def test_whatever_is_asked_for_one_stays_on_this_host(goes_to: str) -> None:
    try:
        attempt = begin(SECRET, goes_to=goes_to, now=NOW)
    except BadInput:
        return
    # As browsers read it: backslashes are slashes, tabs and line ends are not there (WHATWG URL).
    seen = attempt.goes_to.replace("\\", "/").replace("\t", "").replace("\n", "").replace("\r", "")
    assert urlsplit(urljoin("https://certs.example.test/auth/callback", seen)).netloc == "certs.example.test"
