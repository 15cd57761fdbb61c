"""The built-in CA as an issuer: every step may run again."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from cryptography import x509

from certorbit.clock import SystemChance, SystemClock
from certorbit.errors import BACKOFF, IssuerRefused, OrderLost
from certorbit.internal_ca.authority import InternalAuthority
from certorbit.internal_ca.issuer import InternalIssuer
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.material import KeyType
from certorbit.pki.chain import check_issue
from certorbit.pki.csr import make_csr
from certorbit.pki.private_key import make_key as make_own_key
from certorbit.pki.private_key import public_key_sha256
from certorbit.ports.issuer import Issuer
from certorbit.ports.store import Store
from certorbit.settings import InternalCASettings
from certorbit.storage import SQLStore, make_engine
from fakes.clock import FakeClock
from fakes.memory_authorities import MemoryAuthorityStore
from fakes.memory_keyring import MemoryKeyring
from make import general_name, make_chain, make_key
from make import make_csr as make_any_csr

KEY = make_own_key(KeyType.ECDSA_P256)
NAMES = normalise_identifiers(["www.example.test", "*.example.test", "192.0.2.7"])
CSR = make_csr(KEY, NAMES)


@pytest.fixture(params=["memory", "sqlite"])
async def authority_store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """The fake and a real store: the issuer can't tell them apart."""
    if request.param == "memory":
        yield MemoryAuthorityStore()
        return
    store = SQLStore(make_engine(request.getfixturevalue("sqlite_url")), clock=SystemClock(), chance=SystemChance())
    yield store
    await store.close()


@pytest.fixture
def authority(authority_store: Store, clock: FakeClock) -> InternalAuthority:
    return InternalAuthority(
        store=authority_store, keyring=MemoryKeyring(), clock=clock, settings=InternalCASettings(), public_url=""
    )


@pytest.fixture
def issuer(authority: InternalAuthority) -> Issuer:
    return InternalIssuer("house", authority=authority)


def leaf_of(chain_pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain_pem.encode())


async def test_an_order_goes_through_and_the_result_is_what_was_asked_for(issuer: Issuer, clock: FakeClock) -> None:
    order_url = await issuer.place_order(NAMES, replaces="aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
    await issuer.prove(order_url)
    await issuer.finalise(order_url, csr_der=CSR)
    chain_pem = await issuer.collect(order_url)
    facts = check_issue(
        chain_pem,
        identifiers=[identifier.value for identifier in NAMES],
        public_key_sha256=public_key_sha256(KEY),
        now=clock.now(),
    )
    assert facts.san == ("www.example.test", "*.example.test", "192.0.2.7")
    assert (issuer.name, issuer.directory, issuer.can_issue_wildcards) == ("house", "internal", True)
    await issuer.close()


async def test_repeating_any_step_changes_nothing(issuer: Issuer) -> None:
    order_url = await issuer.place_order(NAMES)
    await issuer.finalise(order_url, csr_der=CSR)
    first = await issuer.collect(order_url)
    for _ in range(2):
        await issuer.prove(order_url)
        await issuer.finalise(order_url, csr_der=CSR)
        assert await issuer.collect(order_url) == first


async def test_two_finalisations_at_once_give_one_certificate(issuer: Issuer) -> None:
    order_url = await issuer.place_order(NAMES)
    await asyncio.gather(*(issuer.finalise(order_url, csr_der=CSR) for _ in range(4)))
    first = await issuer.collect(order_url)
    await issuer.finalise(order_url, csr_der=CSR)
    assert await issuer.collect(order_url) == first


async def test_every_order_is_another_one_with_another_serial(issuer: Issuer) -> None:
    orders = [await issuer.place_order(NAMES) for _ in range(3)]
    assert len(set(orders)) == 3
    for order_url in orders:
        await issuer.finalise(order_url, csr_der=CSR)
    assert len({leaf_of(await issuer.collect(order_url)).serial_number for order_url in orders}) == 3
    assert await issuer.find_orders(NAMES) == ()


@pytest.mark.parametrize("key", ["rsa-2048", "ecdsa-p384", "ecdsa-p521"])
async def test_other_good_keys_are_taken(issuer: Issuer, key: str) -> None:
    order_url = await issuer.place_order(NAMES)
    await issuer.finalise(order_url, csr_der=make_any_csr(make_key(key), [x509.DNSName("a.example")]))
    assert leaf_of(await issuer.collect(order_url)).public_key() == make_key(key).public_key()


def forged() -> bytes:
    """A request with a changed name under its old signature."""
    return make_any_csr(make_key(), [x509.DNSName("aa.example")]).replace(b"aa.example", b"bb.example")


@pytest.mark.parametrize(
    ("csr_der", "kind", "says"),
    [
        (b"", "badCSR", "can't be read"),
        (b"garbage", "badCSR", "can't be read"),
        (CSR[:-3], "badCSR", "can't be read"),
        (forged(), "badCSR", "signature doesn't fit"),
        (make_any_csr(make_key(), subject="CN=a.example"), "badCSR", "no subjectAltName"),
        (make_any_csr(make_key(), [x509.RFC822Name("me@example.com")]), "badCSR", "something else than DNS names"),
        (make_any_csr(make_key(), [x509.DNSName("under_score.example")]), "badCSR", "can't be in a certificate"),
        (make_any_csr(make_key("rsa-1024"), [general_name("a.example")]), "badPublicKey", "1024 bits is too short"),
        (make_any_csr(make_key("ed25519"), [general_name("a.example")]), "badPublicKey", "ed25519 can't be served"),
    ],
    ids=[
        "refused/empty",
        "refused/garbage",
        "refused/cut off",
        "refused/wrong signature",
        "refused/no names",
        "refused/mail address",
        "refused/no domain name",
        "refused/RSA 1024",
        "refused/Ed25519",
    ],
)
async def test_a_bad_request_is_refused_and_nothing_is_issued(
    issuer: Issuer, csr_der: bytes, kind: str, says: str
) -> None:
    order_url = await issuer.place_order(NAMES)
    with pytest.raises(IssuerRefused) as refusal:
        await issuer.finalise(order_url, csr_der=csr_der)
    assert refusal.value.type == f"urn:ietf:params:acme:error:{kind}"
    assert says in refusal.value.detail
    with pytest.raises(OrderLost):
        await issuer.collect(order_url)


async def test_an_order_of_somebody_else_or_without_a_certificate_is_lost(issuer: Issuer) -> None:
    foreign = "https://ca.example/order/1"
    for call in (issuer.prove(foreign), issuer.finalise(foreign, csr_der=CSR), issuer.collect(foreign)):
        with pytest.raises(OrderLost, match="not an order of the built-in CA"):
            await call
    with pytest.raises(OrderLost, match="Nothing was issued") as lost:
        await issuer.collect(await issuer.place_order(NAMES))
    assert lost.value.retry == BACKOFF


async def test_revoking_twice_keeps_the_first_date_and_reason(
    issuer: Issuer, authority: InternalAuthority, clock: FakeClock
) -> None:
    order_url = await issuer.place_order(NAMES)
    await issuer.finalise(order_url, csr_der=CSR)
    chain_pem = await issuer.collect(order_url)
    first = clock.now()
    await issuer.revoke(chain_pem, reason=1)
    clock.advance(hours=1)
    await issuer.revoke(chain_pem, reason=4)
    crl = x509.load_der_x509_crl(await authority.crl_der())
    (entry,) = crl
    assert entry.serial_number == leaf_of(chain_pem).serial_number
    assert entry.revocation_date_utc == first
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise


@pytest.mark.parametrize("reason", [-1, 6, 7, 8, 11])
async def test_a_reason_that_is_not_for_leaves_is_refused(issuer: Issuer, reason: int) -> None:
    with pytest.raises(IssuerRefused) as refusal:
        await issuer.revoke(make_chain().chain_pem, reason=reason)
    assert refusal.value.type == "urn:ietf:params:acme:error:badRevocationReason"


async def test_revoking_what_is_no_certificate_is_refused(issuer: Issuer) -> None:
    with pytest.raises(IssuerRefused, match="no certificate found") as refusal:
        await issuer.revoke("text", reason=0)
    assert refusal.value.type == "urn:ietf:params:acme:error:malformed"
