"""Our ACME client against the real Pebble, which rejects one nonce in five."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from certorbit.acme.issuer import ACMEIssuer
from certorbit.clock import SystemChance, SystemClock
from certorbit.errors import AccountProblem, ChallengeFailed, IssuerRefused, Unreachable
from certorbit.model.identifiers import Identifier, normalise_identifiers
from certorbit.settings import IssuerSettings
from certorbit.solvers.http01 import HTTP01Solver
from e2e.challenge_server import serve_challenges
from e2e.pebble import EAB_HMAC_KEY, EAB_KID, MOST_REQUESTS_IN_FLIGHT, Pebble, start_pebble
from fakes.fake_chains import make_csr
from fakes.memory_keyring import MemoryKeyring
from fakes.memory_store import MemoryStore

MakeIssuer = Callable[..., ACMEIssuer]


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    running = start_pebble(tmp_path_factory.mktemp("pebble"))
    yield running
    running.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Pebble]]:
    """Start a Pebble with other settings for one test."""
    running: list[Pebble] = []

    def run(**settings: object) -> Pebble:
        running.append(start_pebble(tmp_path / f"pebble{len(running)}", **settings))  # type: ignore[arg-type]
        return running[-1]

    yield run
    for one in running:
        one.stop()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def make_issuer(store: MemoryStore) -> AsyncIterator[MakeIssuer]:
    """Make issuers on one store and one keyring; all are closed after the test."""
    keyring = MemoryKeyring()
    async with AsyncExitStack() as stack:

        def make(pebble: Pebble, **settings: object) -> ACMEIssuer:
            clock = SystemClock()
            issuer = ACMEIssuer(
                settings=IssuerSettings(
                    name="pebble",
                    directory=pebble.directory_url,
                    contact=("ops@example.com",),
                    **{"ca_bundle": pebble.ca_bundle, **settings},
                ),
                store=store,
                keyring=keyring,
                solvers=[HTTP01Solver(store=store, clock=clock)],
                clock=clock,
                chance=SystemChance(),
                max_requests_in_flight=MOST_REQUESTS_IN_FLIGHT,
                limit_seconds=30,
            )
            stack.push_async_callback(issuer.close)
            return issuer

        yield make


async def issue(issuer: ACMEIssuer, *names: str) -> str:
    """Get a certificate from the order to the chain."""
    identifiers = normalise_identifiers(names)
    url = await issuer.place_order(identifiers)
    await issuer.prove(url)
    await issuer.finalise(url, csr_der=make_csr(*(identifier.value for identifier in identifiers)))
    return await issuer.collect(url)


def names_of(chain_pem: str) -> set[str]:
    leaf = x509.load_pem_x509_certificate(chain_pem.encode())
    return set(
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    )


def top_issuer_of(chain_pem: str) -> str:
    top = x509.load_pem_x509_certificates(chain_pem.encode())[-1]
    return str(top.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def test_a_name_gets_its_certificate(pebble: Pebble, store: MemoryStore, make_issuer: MakeIssuer) -> None:
    async with serve_challenges(store, port=pebble.http01_port) as asked:
        chain_pem = await issue(make_issuer(pebble), "www.example.com")
    assert names_of(chain_pem) == {"www.example.com"}
    assert len(x509.load_pem_x509_certificates(chain_pem.encode())) == 2
    assert len(asked) >= 1
    assert store.challenges == {}, "the proofs are taken away"


async def test_a_hundred_names_fit_into_one_certificate(
    pebble: Pebble, store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    names = [f"host-{number}.example.com" for number in range(100)]
    async with serve_challenges(store, port=pebble.http01_port):
        chain_pem = await issue(make_issuer(pebble), *names)
    assert names_of(chain_pem) == set(names)


async def test_a_ca_whose_https_is_not_trusted_is_refused(pebble: Pebble, make_issuer: MakeIssuer) -> None:
    with pytest.raises(Unreachable, match=r"self-signed certificate.*ca_bundle") as caught:
        await make_issuer(pebble, ca_bundle=None).place_order(normalise_identifiers(["tls.example.com"]))
    assert caught.value.phase == "TLS"


async def test_an_international_name_is_ordered_as_its_a_label(
    pebble: Pebble, store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    async with serve_challenges(store, port=pebble.http01_port):
        chain_pem = await issue(make_issuer(pebble), "bücher.example")
    assert names_of(chain_pem) == {"xn--bcher-kva.example"}


async def test_many_orders_share_one_account(pebble: Pebble, store: MemoryStore, make_issuer: MakeIssuer) -> None:
    issuer = make_issuer(pebble)
    async with serve_challenges(store, port=pebble.http01_port):
        chains = await asyncio.gather(*(issue(issuer, f"crowd-{number}.example.com") for number in range(12)))
    assert [names_of(chain) for chain in chains] == [{f"crowd-{number}.example.com"} for number in range(12)]
    assert len(store.accounts) == 1


async def test_valid_authorizations_are_used_as_they_are(
    start: Callable[..., Pebble], store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    pebble = start(authz_reuse=100)
    issuer = make_issuer(pebble)
    async with serve_challenges(store, port=pebble.http01_port) as asked:
        await issue(issuer, "again.example.com")
        asked_first = len(asked)
        chain_pem = await issue(issuer, "again.example.com")
    assert names_of(chain_pem) == {"again.example.com"}
    assert len(asked) == asked_first, "nothing was validated twice"


async def test_a_failed_challenge_brings_the_words_of_the_ca(
    pebble: Pebble, store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    issuer = make_issuer(pebble)
    identifiers = normalise_identifiers(["a.nobody.example", "b.nobody.example"])
    url = await issuer.place_order(identifiers)
    with pytest.raises(ChallengeFailed) as caught:  # nobody listens on the port
        await issuer.prove(url)
    assert list(caught.value.subproblems) == ["a.nobody.example", "b.nobody.example"]
    assert "connection refused" in caught.value.message
    assert caught.value.type == "urn:ietf:params:acme:error:connection"
    assert store.challenges == {}
    with pytest.raises(ChallengeFailed):  # a repeat after a crash says the same
        await make_issuer(pebble).prove(url)


async def test_a_failing_dns_is_told(pebble: Pebble, store: MemoryStore, make_issuer: MakeIssuer) -> None:
    pebble.set_servfail("servfail.example.com")
    async with serve_challenges(store, port=pebble.http01_port):
        with pytest.raises(ChallengeFailed, match="could not resolve URL"):
            await issue(make_issuer(pebble), "servfail.example.com")


async def test_a_blocked_name_is_refused_with_the_words_of_the_ca(pebble: Pebble, make_issuer: MakeIssuer) -> None:
    with pytest.raises(IssuerRefused, match=r"rejectedIdentifier: .*blocked\.example") as caught:
        await make_issuer(pebble).place_order(normalise_identifiers(["blocked.example"]))
    assert caught.value.status == 400


async def test_a_wildcard_without_dns01_is_refused_in_words(pebble: Pebble, make_issuer: MakeIssuer) -> None:
    issuer = make_issuer(pebble)
    assert not issuer.can_issue_wildcards
    url = await issuer.place_order(normalise_identifiers(["*.wild.example.com"]))
    with pytest.raises(
        ChallengeFailed, match=r"\*\.wild\.example\.com.*the CA offers dns-01, our solvers for it: none"
    ):
        await issuer.prove(url)


async def test_a_required_external_binding_is_asked_for_and_used(
    start: Callable[..., Pebble], store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    pebble = start(eab=True)
    identifiers = normalise_identifiers(["bound.example.com"])
    with pytest.raises(AccountProblem, match="Set the issuer's eab_kid and eab_hmac_key"):
        await make_issuer(pebble).place_order(identifiers)
    bound = make_issuer(pebble, eab_kid=EAB_KID, eab_hmac_key=SecretStr(EAB_HMAC_KEY))
    async with serve_challenges(store, port=pebble.http01_port):
        assert names_of(await issue(bound, "bound.example.com")) == {"bound.example.com"}


async def test_the_preferred_chain_is_taken(
    start: Callable[..., Pebble], store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    pebble = start(alternate_roots=2)
    roots = [x509.load_pem_x509_certificate(root.encode()) for root in pebble.fetch_roots()]
    names = [str(root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value) for root in roots]
    assert len(set(names)) == 3
    async with serve_challenges(store, port=pebble.http01_port):
        for wanted, expected in [(names[2], names[2]), ("No Such Root", names[0]), ("", names[0])]:
            issuer = make_issuer(pebble, preferred_chain=wanted)
            assert top_issuer_of(await issue(issuer, "chain.example.com")) == expected


async def test_revoking_twice_is_harmless(pebble: Pebble, store: MemoryStore, make_issuer: MakeIssuer) -> None:
    issuer = make_issuer(pebble)
    async with serve_challenges(store, port=pebble.http01_port):
        chain_pem = await issue(issuer, "revoked.example.com")
    await issuer.revoke(chain_pem, reason=1)
    await issuer.revoke(chain_pem, reason=1)
    assert pebble.fetch_status(chain_pem) == "Revoked"


async def test_an_order_whose_answer_was_lost_is_found_again(
    start: Callable[..., Pebble], store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    pebble = start(orders_per_page=2)
    issuer = make_issuer(pebble)
    names = normalise_identifiers(["lost.example.com", "also.lost.example.com"])
    assert await issuer.find_orders(names) == []
    urls = [await issuer.place_order(wanted) for wanted in (names, names[:1], names, names[1:], names)]
    found = await make_issuer(pebble).find_orders(tuple(reversed(names)))
    assert sorted(found) == sorted([urls[0], urls[2], urls[4]])
    async with serve_challenges(store, port=pebble.http01_port):
        await issuer.prove(urls[0])
        await issuer.finalise(urls[0], csr_der=make_csr(*(name.value for name in names)))
    assert urls[0] not in await issuer.find_orders(names), "a valid order is of no use any more"
    assert pebble.count_new_orders() == 5


async def test_every_step_goes_on_in_another_process(
    pebble: Pebble, store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    identifiers: tuple[Identifier, ...] = normalise_identifiers(["restart.example.com"])
    csr_der = make_csr("restart.example.com")
    url = await make_issuer(pebble).place_order(identifiers)
    async with serve_challenges(store, port=pebble.http01_port):
        for _ in range(2):
            await make_issuer(pebble).prove(url)
        for _ in range(2):
            await make_issuer(pebble).finalise(url, csr_der=csr_der)
        chains = [await make_issuer(pebble).collect(url) for _ in range(2)]
    assert chains[0] == chains[1]
    assert len(store.accounts) == 1


async def test_an_account_that_the_ca_forgot_is_registered_again_with_its_key(
    start: Callable[..., Pebble], store: MemoryStore, make_issuer: MakeIssuer
) -> None:
    first = start()
    issuer = make_issuer(first)
    await issuer.place_order(normalise_identifiers(["old.example.com"]))
    (account,) = store.accounts.values()
    url = await issuer.find_account()
    assert url == account.url
    # As if the CA had lost its database: the row names an account that nobody has.
    await store.write(lambda tx: tx.accounts.set_url(account.directory, account.name, url=f"{url}0"))
    await make_issuer(first).place_order(normalise_identifiers(["new.example.com"]))
    assert store.accounts[account.directory, account.name].url == url
    assert store.accounts[account.directory, account.name].sealed_key == account.sealed_key


async def test_a_deactivated_account_says_so(start: Callable[..., Pebble], make_issuer: MakeIssuer) -> None:
    pebble = start()
    issuer = make_issuer(pebble)
    await issuer.deactivate_account()
    with pytest.raises(AccountProblem, match="deactivated"):
        await issuer.place_order(normalise_identifiers(["late.example.com"]))
