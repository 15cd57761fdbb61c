"""`ports.store.Store` on SQLite and on PostgreSQL: the order ledger, accounts, challenges, API keys, the built-in CA."""

from dataclasses import replace
from datetime import timedelta

import pytest

from certorbit.errors import Broken, LostRace
from certorbit.model.access import APIKeyID
from certorbit.model.operation import OperationID
from certorbit.model.order import OrderID
from certorbit.ports.authority_store import RevokedSerial
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore
from records import NOW, make_account, make_api_key, make_authority, make_challenge, make_intent


async def test_an_order_intent_reads_back_as_written(store: SQLStore) -> None:
    intent = make_intent(url="https://ca.example.test/order/1")
    await store.write(lambda tx: tx.orders.add(intent))
    assert await store.read(lambda tx: tx.orders.find(intent.operation, 1)) == intent
    assert await store.read(lambda tx: tx.orders.find(intent.operation, 2)) is None


async def test_an_attempt_has_one_order_at_most(store: SQLStore) -> None:
    await store.write(lambda tx: tx.orders.add(make_intent(operation="o1")))
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.orders.add(make_intent(operation="o1")))


async def test_every_request_is_counted_with_its_order_and_in_all(store: SQLStore) -> None:
    first, second = make_intent(), make_intent()

    def work(tx: UnitOfWork) -> None:
        tx.orders.add(first)
        tx.orders.add(second)
        for _ in range(2):
            tx.orders.count_request(first.id, now=NOW)
        tx.orders.count_request(second.id, now=NOW)

    await store.write(work)
    assert await store.read(lambda tx: tx.orders.find(first.operation, 1)) == replace(first, requests=2)
    assert await store.read(lambda tx: tx.orders.find(second.operation, 1)) == replace(second, requests=1)
    assert await store.read(lambda tx: tx.orders.total_requests()) == 3


async def test_an_order_gets_its_url_and_its_url_is_known(store: SQLStore) -> None:
    intent, other = make_intent(), make_intent()
    url = "https://ca.example.test/order/2"

    def work(tx: UnitOfWork) -> None:
        tx.orders.add(intent)
        tx.orders.add(other)
        tx.orders.set_url(intent.id, url)

    await store.write(work)
    assert await store.read(lambda tx: tx.orders.find(intent.operation, 1)) == replace(intent, url=url)
    assert await store.read(lambda tx: tx.orders.known_urls([url, "https://ca.example.test/order/3", ""])) == {url}
    assert await store.read(lambda tx: tx.orders.known_urls([])) == set()


async def test_the_first_url_of_an_order_stays(store: SQLStore) -> None:
    intent = make_intent()
    await store.write(lambda tx: tx.orders.add(intent))
    urls = ["https://ca.example.test/order/4", "https://ca.example.test/order/5"]
    kept = [await store.write(lambda tx, url=url: tx.orders.set_url(intent.id, url)) for url in urls]
    assert kept == [urls[0], urls[0]]
    assert await store.read(lambda tx: tx.orders.find(intent.operation, 1)) == replace(intent, url=urls[0])


async def test_an_order_is_carried_over_to_a_later_attempt(store: SQLStore) -> None:
    intent = make_intent()
    await store.write(lambda tx: tx.orders.add(intent))
    await store.write(lambda tx: tx.orders.carry_over(intent.id, attempt=2))
    assert await store.read(lambda tx: tx.orders.find(intent.operation, 1)) is None
    assert await store.read(lambda tx: tx.orders.find(intent.operation, 2)) == replace(intent, attempt=2)


async def test_an_order_is_not_carried_over_onto_another(store: SQLStore) -> None:
    await store.write(lambda tx: tx.orders.add(make_intent("i1", operation="o1")))
    await store.write(lambda tx: tx.orders.add(make_intent("i2", operation="o1", attempt=2)))
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.orders.carry_over(OrderID("i1"), attempt=2))


async def test_a_dropped_key_is_gone(store: SQLStore) -> None:
    intent = make_intent()
    await store.write(lambda tx: tx.orders.add(intent))
    await store.write(lambda tx: tx.orders.drop_key(intent.id))
    assert await store.read(lambda tx: tx.orders.find(intent.operation, 1)) == replace(intent, sealed_key=b"")


@pytest.mark.parametrize("change", ["count", "url", "carry", "drop"])
async def test_changing_an_unknown_order_is_a_bug(store: SQLStore, change: str) -> None:
    order = OrderID("nowhere")

    def work(tx: UnitOfWork) -> None:
        match change:
            case "count":
                tx.orders.count_request(order, now=NOW)
            case "url":
                tx.orders.set_url(order, "x")
            case "carry":
                tx.orders.carry_over(order, attempt=2)
            case _:
                tx.orders.drop_key(order)

    with pytest.raises(Broken, match="order 'nowhere' is not in the store"):
        await store.write(work)
    assert await store.read(lambda tx: tx.orders.total_requests()) == 0


async def test_an_account_reads_back_and_gets_its_url(store: SQLStore) -> None:
    account = make_account()
    await store.write(lambda tx: tx.accounts.add(account))
    assert await store.read(lambda tx: tx.accounts.find(account.directory, account.name)) == account
    await store.write(lambda tx: tx.accounts.set_url(account.directory, account.name, url="https://ca/acct/1"))
    found = await store.read(lambda tx: tx.accounts.find(account.directory, account.name))
    assert found == replace(account, url="https://ca/acct/1")


async def test_an_account_is_its_directory_and_its_name(store: SQLStore) -> None:
    account = make_account()
    await store.write(lambda tx: tx.accounts.add(account))
    await store.write(lambda tx: tx.accounts.add(replace(account, name="second")))
    await store.write(lambda tx: tx.accounts.add(replace(account, directory="https://other.example.test")))
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.accounts.add(account))
    with pytest.raises(Broken, match="'acme' at nowhere is not in the store"):
        await store.write(lambda tx: tx.accounts.set_url("nowhere", "acme", url="x"))


async def test_challenges_are_inserted_or_overwritten(store: SQLStore) -> None:
    first, second = make_challenge("t1"), make_challenge("t2")
    await store.write(lambda tx: tx.challenges.put_all([second, first]))
    changed = replace(first, key_authorization="other", expires_at=NOW + timedelta(hours=1))
    await store.write(lambda tx: tx.challenges.put_all([changed]))
    await store.write(lambda tx: tx.challenges.put_all([]))
    assert await store.read(lambda tx: tx.challenges.find("t1")) == changed
    assert await store.read(lambda tx: tx.challenges.find("t2")) == second


async def test_challenges_are_deleted_by_token(store: SQLStore) -> None:
    await store.write(lambda tx: tx.challenges.put_all([make_challenge(f"t{number}") for number in range(3)]))
    await store.write(lambda tx: tx.challenges.delete_all(["t0", "t2", "gone"]))
    await store.write(lambda tx: tx.challenges.delete_all([]))
    left = [await store.read(lambda tx, n=n: tx.challenges.find(f"t{n}")) for n in range(3)]  # type: ignore[misc]
    assert left == [None, make_challenge("t1"), None]


async def test_expired_challenges_are_deleted_and_counted(store: SQLStore) -> None:
    def work(tx: UnitOfWork) -> int:
        for number, seconds in enumerate((-1, 0, 1)):
            tx.challenges.put_all([make_challenge(f"t{number}", expires_at=NOW + timedelta(seconds=seconds))])
        return tx.challenges.delete_expired(now=NOW)

    assert await store.write(work) == 2
    assert await store.read(lambda tx: tx.challenges.find("t2")) is not None


async def test_an_api_key_is_found_by_id_and_by_digest(store: SQLStore) -> None:
    key = make_api_key()
    await store.write(lambda tx: tx.api_keys.add(key))
    assert await store.read(lambda tx: tx.api_keys.find(key.id)) == key
    assert await store.read(lambda tx: tx.api_keys.find_by_digest(key.digest)) == key
    assert await store.read(lambda tx: tx.api_keys.find_by_digest("0" * 64)) is None


async def test_api_keys_are_listed_oldest_first_and_counted(store: SQLStore) -> None:
    young, old = make_api_key("k1"), make_api_key("k2", created_at=NOW - timedelta(days=1))
    await store.write(lambda tx: tx.api_keys.add(young))
    await store.write(lambda tx: tx.api_keys.add(old))
    assert await store.read(lambda tx: tx.api_keys.list()) == [old, young]
    assert await store.read(lambda tx: tx.api_keys.count()) == 2


async def test_two_api_keys_never_share_a_digest(store: SQLStore) -> None:
    await store.write(lambda tx: tx.api_keys.add(make_api_key(digest="d")))
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.api_keys.add(make_api_key(digest="d")))


async def test_a_revoked_api_key_keeps_its_first_date(store: SQLStore) -> None:
    key = make_api_key()
    await store.write(lambda tx: tx.api_keys.add(key))
    for days in (1, 2):
        await store.write(lambda tx, days=days: tx.api_keys.revoke(key.id, now=NOW + timedelta(days=days)))  # type: ignore[misc]
    found = await store.read(lambda tx: tx.api_keys.find(key.id))
    assert found == replace(key, revoked_at=NOW + timedelta(days=1))


async def test_revoking_an_unknown_api_key_is_a_bug(store: SQLStore) -> None:
    with pytest.raises(Broken, match="'nowhere' is not in the store"):
        await store.write(lambda tx: tx.api_keys.revoke(APIKeyID("nowhere"), now=NOW))


async def test_there_is_one_authority(store: SQLStore) -> None:
    assert await store.read(lambda tx: tx.authorities.find()) is None
    await store.write(lambda tx: tx.authorities.add(make_authority()))
    assert await store.read(lambda tx: tx.authorities.find()) == make_authority()
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.authorities.add(make_authority()))


async def test_an_issued_chain_is_found_by_its_order(store: SQLStore) -> None:
    await store.write(lambda tx: tx.authorities.add_issued("o/1", serial="0a", chain_pem="chain", not_after=NOW))
    assert await store.read(lambda tx: tx.authorities.find_issued("o/1")) == "chain"
    assert await store.read(lambda tx: tx.authorities.find_issued("o/2")) is None


@pytest.mark.parametrize(("order_url", "serial"), [("o/1", "0b"), ("o/2", "0a")], ids=["same order", "same serial"])
async def test_an_order_and_a_serial_are_issued_once(store: SQLStore, order_url: str, serial: str) -> None:
    await store.write(lambda tx: tx.authorities.add_issued("o/1", serial="0a", chain_pem="chain", not_after=NOW))
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.authorities.add_issued(order_url, serial=serial, chain_pem="x", not_after=NOW))


async def test_revoked_serials_are_listed_in_order_with_their_first_reason(store: SQLStore) -> None:
    def work(tx: UnitOfWork) -> None:
        for serial in ("0a", "0b", "0c"):
            tx.authorities.add_issued(f"o/{serial}", serial=serial, chain_pem="chain", not_after=NOW)
        tx.authorities.revoke("0b", now=NOW, reason=0)
        tx.authorities.revoke("0a", now=NOW + timedelta(seconds=1), reason=1)
        tx.authorities.revoke("0b", now=NOW + timedelta(seconds=2), reason=4)

    await store.write(work)
    assert await store.read(lambda tx: tx.authorities.list_revoked()) == [
        RevokedSerial(serial="0b", revoked_at=NOW, reason=0),
        RevokedSerial(serial="0a", revoked_at=NOW + timedelta(seconds=1), reason=1),
    ]


async def test_revoking_what_was_never_issued_is_a_bug(store: SQLStore) -> None:
    with pytest.raises(Broken, match="certificate 0f is not in the store"):
        await store.write(lambda tx: tx.authorities.revoke("0f", now=NOW, reason=0))


async def test_crl_numbers_grow(store: SQLStore) -> None:
    numbers = [await store.write(lambda tx: tx.authorities.next_crl_number()) for _ in range(3)]
    assert numbers == [1, 2, 3]


async def test_the_keyring_check_is_written_once(store: SQLStore) -> None:
    assert await store.read(lambda tx: tx.keyring_checks.find()) is None
    await store.write(lambda tx: tx.keyring_checks.add(b"\x01\x00"))
    assert await store.read(lambda tx: tx.keyring_checks.find()) == b"\x01\x00"
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.keyring_checks.add(b"other"))


async def test_an_operation_is_not_in_the_ledger_by_itself(store: SQLStore) -> None:
    assert await store.read(lambda tx: tx.orders.find(OperationID("nowhere"), 1)) is None
