"""The account: one key, one account, whoever asks and whatever is lost."""

import asyncio
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from certorbit.acme.issuer import ACMEIssuer
from certorbit.acme.jws import AccountKey, encode_base64url
from certorbit.errors import AccountProblem, Broken, RetryRule
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.order import Account, account_key_context
from fakes.clock import FakeClock
from fakes.fake_ca import HANG_UP_AFTERWARDS, FakeCA, problem
from fakes.memory_keyring import MemoryKeyring
from fakes.memory_store import MemoryStore

MakeIssuer = Callable[..., ACMEIssuer]
NAMES = normalise_identifiers(["a.example"])


async def test_callers_at_once_share_one_registration(ca: FakeCA, issuer: ACMEIssuer, store: MemoryStore) -> None:
    await asyncio.gather(*(issuer.place_order(NAMES) for _ in range(10)))
    assert ca.count("new-account") == 1
    (account,) = store.accounts.values()
    assert account.url in ca.accounts


async def test_the_account_is_found_again_by_a_later_process(
    ca: FakeCA, make_issuer: MakeIssuer, store: MemoryStore
) -> None:
    await make_issuer(ca.directory_url).place_order(NAMES)
    await make_issuer(ca.directory_url).place_order(NAMES)
    assert ca.count("new-account") == 1
    assert len(store.accounts) == 1


async def test_the_key_is_stored_before_the_ca_is_asked(
    ca: FakeCA, make_issuer: MakeIssuer, store: MemoryStore
) -> None:
    ca.script("new-account", *[problem(400, "malformed")])
    with pytest.raises(Exception, match="malformed"):
        await make_issuer(ca.directory_url).place_order(NAMES)
    (before,) = store.accounts.values()
    assert before.url == ""
    await make_issuer(ca.directory_url).place_order(NAMES)
    (after,) = store.accounts.values()
    assert after.sealed_key == before.sealed_key
    assert after.url in ca.accounts


async def test_a_lost_answer_makes_no_second_account(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("new-account", HANG_UP_AFTERWARDS)
    await issuer.place_order(NAMES)
    assert ca.count("new-account") == 2
    assert len(ca.accounts) == 1


async def test_of_two_racing_processes_one_key_counts(
    ca: FakeCA, issuer: ACMEIssuer, store: MemoryStore, keyring: MemoryKeyring, clock: FakeClock
) -> None:
    context = account_key_context(ca.directory_url, "fake")
    key = AccountKey.generate()
    sealed_key = keyring.seal(key.to_pem(), context=context)
    theirs = Account(ca.directory_url, "fake", sealed_key, "", (), clock.now())

    def others_insert() -> None:
        store.accounts[ca.directory_url, "fake"] = theirs

    store.races, store.before_repeat = 1, others_insert
    await issuer.place_order(NAMES)
    (account,) = store.accounts.values()
    assert account.sealed_key == theirs.sealed_key
    assert [registered["key"] for registered in ca.accounts.values()] == [key.jwk]


async def test_a_ca_that_forgot_the_account_gets_it_again_with_the_same_key(
    ca: FakeCA, issuer: ACMEIssuer, store: MemoryStore
) -> None:
    await issuer.place_order(NAMES)
    (first,) = ca.accounts
    ca.accounts.clear()
    await asyncio.gather(*(issuer.place_order(NAMES) for _ in range(5)))
    (second,) = ca.accounts
    assert second != first
    assert ca.count("new-account") == 2, "five callers, one registration"
    (account,) = store.accounts.values()
    assert account.url == second


async def test_an_account_that_is_forgotten_for_ever_is_an_error(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("new-order", *[problem(400, "accountDoesNotExist", "who?")] * 2)
    with pytest.raises(AccountProblem, match=r"accountDoesNotExist: who\?"):
        await issuer.place_order(NAMES)
    assert ca.count("new-order") == 2


async def test_a_required_binding_is_asked_for_in_words(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.eab_keys = {"kid-1": b"secret"}
    with pytest.raises(AccountProblem) as caught:
        await issuer.place_order(NAMES)
    assert caught.value.message == (
        "The CA fake refused the account's registration: externalAccountRequired: bind an external account"
        " Set the issuer's eab_kid and eab_hmac_key to what the CA gave you."
    )
    assert caught.value.retry.rule is RetryRule.NEVER


async def test_a_binding_opens_the_door(ca: FakeCA, make_issuer: MakeIssuer) -> None:
    ca.eab_keys = {"kid-1": b"secret"}
    key = SecretStr(encode_base64url(b"secret"))
    await make_issuer(ca.directory_url, eab_kid="kid-1", eab_hmac_key=key).place_order(NAMES)
    assert len(ca.accounts) == 1


@pytest.mark.parametrize(
    ("key", "words"), [(encode_base64url(b"wrong"), "binding is wrong"), ("n!", "eab_hmac_key is not base64url")]
)
async def test_a_wrong_binding_is_an_account_problem_that_never_shows_the_key(
    ca: FakeCA, make_issuer: MakeIssuer, key: str, words: str
) -> None:
    ca.eab_keys = {"kid-1": b"secret"}
    with pytest.raises(AccountProblem, match=words) as caught:
        await make_issuer(ca.directory_url, eab_kid="kid-1", eab_hmac_key=SecretStr(key)).place_order(NAMES)
    assert key not in caught.value.message


async def test_contacts_are_sent_as_urls(ca: FakeCA, make_issuer: MakeIssuer) -> None:
    await make_issuer(ca.directory_url, contact=("ops@a.example", "mailto:b@a.example")).place_order(NAMES)
    (payload,) = [payload for door, payload in ca.payloads if door == "new-account"]
    assert payload == {
        "termsOfServiceAgreed": True,
        "contact": ["mailto:ops@a.example", "mailto:b@a.example"],
    }


async def test_an_account_is_looked_up_without_making_one(ca: FakeCA, issuer: ACMEIssuer) -> None:
    assert await issuer.find_account() is None
    assert ca.count("new-account") == 0, "without a key there is nothing to ask"
    await issuer.place_order(NAMES)
    assert await issuer.find_account() in ca.accounts
    ca.accounts.clear()
    assert await issuer.find_account() is None


async def test_deactivation_is_told_to_the_ca(ca: FakeCA, issuer: ACMEIssuer) -> None:
    await issuer.deactivate_account()
    (account,) = ca.accounts.values()
    assert account["shown"]["status"] == "deactivated"


async def test_a_sealed_key_of_another_row_is_not_used(ca: FakeCA, make_issuer: MakeIssuer, store: MemoryStore) -> None:
    await make_issuer(ca.directory_url).place_order(NAMES)
    (account,) = store.accounts.values()
    other = f"{ca.directory_url}?other"
    store.accounts[other, "fake"] = Account(other, "fake", account.sealed_key, "", (), account.created_at)
    with pytest.raises(Broken):
        await make_issuer(other).place_order(NAMES)
