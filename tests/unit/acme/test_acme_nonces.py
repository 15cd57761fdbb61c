"""The pool of nonces."""

import pytest

from certorbit.acme.nonces import NoncePool


def test_the_freshest_nonce_goes_first_and_each_goes_once() -> None:
    pool = NoncePool(most=5)
    for nonce in ("old", "new"):
        pool.put(nonce)
    assert [pool.take(), pool.take(), pool.take()] == ["new", "old", None]


def test_the_oldest_are_dropped_when_the_pool_is_full() -> None:
    pool = NoncePool(most=2)
    for nonce in ("a", "b", "c"):
        pool.put(nonce)
    assert len(pool) == 2
    assert [pool.take(), pool.take()] == ["c", "b"]


@pytest.mark.parametrize("value", [None, "", "white space", "a\r\nX-Evil: 1", "ünicode", "a" * 257, "a=="])
def test_what_is_no_nonce_is_ignored(value: str | None) -> None:
    pool = NoncePool(most=2)
    pool.put(value)
    assert pool.take() is None
