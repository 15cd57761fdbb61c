"""The keyring's state over the API: what administrators see, and that no key is in it."""

import asyncio

from api.server import API
from api.shapes import assert_error
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.model.keyring import KNOWN_VALUE_CONTEXT, StoredKey
from certorbit.ports.store import UnitOfWork
from fakes.clock import START

PATH = "/api/certorbit/v1/keyring"
KEYS = [KeyEncryptionKey(bytes([number]) * 32) for number in (1, 2)]


def test_keys_and_what_they_seal_are_shown(fresh_api: API) -> None:
    first = fresh_api.call("GET", PATH).json
    assert first["keys"] == []
    assert first["to_rewrap"] == first["secrets"] == sum(first["unknown"].values()), "the test's keyring has no rows"

    def add(tx: UnitOfWork) -> None:
        tx.key_encryption_keys.add(StoredKey(KEYS[0].id, "file", KEYS[0].id, b"", START, START))
        tx.key_encryption_keys.add(StoredKey(KEYS[1].id, "transit", "transit/certorbit:v1", b"wrapped", START))
        tx.keyring_checks.add(KEYS[1].seal(b"certorbit", context=KNOWN_VALUE_CONTEXT))

    asyncio.run(fresh_api.parts.store.write(add))
    answer = fresh_api.call("GET", PATH)
    assert answer.status == 200
    assert answer.json["secrets"] == first["secrets"] + 1
    assert answer.json["to_rewrap"] == first["secrets"]
    old, new = sorted(answer.json["keys"], key=lambda key: key["seals"])
    assert (old["id"], old["retired_at"], old["secrets"], old["seals"]) == (
        KEYS[0].id,
        "2026-11-24T12:00:00.000Z",
        0,
        False,
    )
    assert (new["provider"], new["wrapping_key"], new["secrets"], new["seals"]) == (
        "transit",
        "transit/certorbit:v1",
        1,
        True,
    )
    assert "wrapped" not in answer.json["keys"][0]


def test_only_administrators_see_it(fresh_api: API) -> None:
    assert_error(fresh_api.call("GET", PATH, key="reader"), 403)
    assert_error(fresh_api.call("GET", PATH, key=None), 401)
