"""The CRL of the built-in CA."""

import asyncio
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.internal_ca.authority import InternalAuthority
from certorbit.internal_ca.issuer import InternalIssuer
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.material import KeyType
from certorbit.net.fetch import GuardedFetcher
from certorbit.net.outbound_rules import OutboundRules
from certorbit.observe.metrics import Metrics
from certorbit.pki.crl_points import read_leaf
from certorbit.pki.csr import make_csr
from certorbit.pki.private_key import make_key
from certorbit.revocation.lists import CRLLists
from certorbit.revocation_settings import RevocationSettings
from certorbit.settings import InternalCASettings
from certorbit.workflows.revocation_look import judge
from fakes.clock import FakeChance, FakeClock
from fakes.memory_authorities import MemoryAuthorityStore
from fakes.memory_keyring import MemoryKeyring
from programs import require_program

KEY = make_key(KeyType.ECDSA_P256)


class House:
    """The authority with its issuer, and what they gave out."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.store = MemoryAuthorityStore()
        self.keyring = MemoryKeyring()
        self.authority = self.process()
        self.issuer = InternalIssuer("internal", authority=self.authority)

    def process(self) -> InternalAuthority:
        return InternalAuthority(
            store=self.store, keyring=self.keyring, clock=self.clock, settings=InternalCASettings(), public_url=""
        )

    async def issue(self) -> str:
        names = normalise_identifiers(["a.example"])
        order_url = await self.issuer.place_order(names)
        await self.issuer.finalise(order_url, csr_der=make_csr(KEY, names))
        return await self.issuer.collect(order_url)

    async def crl(self) -> x509.CertificateRevocationList:
        return x509.load_der_x509_crl(await self.authority.crl_der())


@pytest.fixture
def house(clock: FakeClock) -> House:
    return House(clock)


def number_of(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def openssl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [require_program("openssl"), *arguments], capture_output=True, text=True, check=False, timeout=30
    )


async def test_openssl_verifies_the_crl_and_refuses_the_revoked_leaf_alone(house: House, tmp_path: Path) -> None:
    good, bad = await house.issue(), await house.issue()
    await house.issuer.revoke(bad, reason=4)
    chain = x509.load_pem_x509_certificates(good.encode())
    (tmp_path / "issuing.pem").write_bytes(chain[1].public_bytes(Encoding.PEM))
    (tmp_path / "root.pem").write_text(await house.authority.root_pem())
    (tmp_path / "crl.der").write_bytes(await house.authority.crl_der())
    signed = openssl(
        "crl", "-inform", "DER", "-in", f"{tmp_path}/crl.der", "-CAfile", f"{tmp_path}/issuing.pem", "-noout"
    )
    assert "verify OK" in signed.stderr + signed.stdout

    crl_pem = (await house.crl()).public_bytes(Encoding.PEM)
    (tmp_path / "crl.pem").write_bytes(crl_pem)
    verdicts = []
    for name, text in (("good", good), ("bad", bad)):
        (tmp_path / f"{name}.pem").write_text(text)
        at = str(int(house.clock.now().timestamp()))
        files = ("-CAfile", f"{tmp_path}/root.pem", "-untrusted", f"{tmp_path}/issuing.pem")
        check = ("-crl_check", "-CRLfile", f"{tmp_path}/crl.pem", f"{tmp_path}/{name}.pem")
        verdicts.append(openssl("verify", "-attime", at, *files, *check))
    assert verdicts[0].returncode == 0, verdicts[0].stderr
    assert "certificate revoked" in verdicts[1].stderr


async def test_an_empty_crl_is_version_2_with_number_and_authority_key(house: House) -> None:
    crl = await house.crl()
    issuing = x509.load_pem_x509_certificates((await house.issue()).encode())[1]
    assert list(crl) == []
    assert crl.is_signature_valid(issuing.public_key())  # type: ignore[arg-type]
    assert crl.issuer == issuing.subject
    assert number_of(crl) == 1
    key_id = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key_id == issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert crl.next_update_utc == house.clock.now() + timedelta(days=7)


async def test_the_same_crl_is_given_until_half_of_its_validity_is_over(house: House) -> None:
    first = await house.authority.crl_der()
    house.clock.advance(days=3.49)
    assert await house.authority.crl_der() == first
    house.clock.advance(days=0.02)
    second = await house.crl()
    assert second.last_update_utc == house.clock.now().replace(microsecond=0)
    assert number_of(second) == 2


async def test_a_clock_that_was_set_back_makes_a_new_crl(house: House) -> None:
    house.clock.advance(days=10)
    first = await house.crl()
    house.clock.advance(days=-5)
    second = await house.crl()
    assert second.last_update_utc < first.last_update_utc
    assert number_of(second) > number_of(first)


async def test_a_revocation_is_on_the_next_crl_with_a_higher_number(house: House) -> None:
    chains = [await house.issue() for _ in range(3)]
    seen = []
    for chain in chains:
        await house.issuer.revoke(chain, reason=0)
        crl = await house.crl()
        seen.append((number_of(crl), len(crl)))
    assert seen == [(1, 1), (2, 2), (3, 3)]
    assert all(not list(entry.extensions) for entry in await house.crl())  # reason 0 is not written


async def test_another_process_sees_the_revocation(house: House) -> None:
    other = house.process()
    chain = await house.issue()
    before = x509.load_der_x509_crl(await other.crl_der())
    await house.issuer.revoke(chain, reason=1)
    after = x509.load_der_x509_crl(await other.crl_der())
    assert (len(before), len(after)) == (0, 1)
    assert number_of(after) > number_of(before)


async def test_many_readers_at_once_get_one_crl(house: House) -> None:
    crls = await asyncio.gather(*(house.authority.crl_der() for _ in range(20)))
    assert len(set(crls)) == 1
    assert house.store.authorities.crl_number == 1


async def test_our_own_look_reads_the_crl_without_a_download(house: House) -> None:
    lists = CRLLists(
        store=house.store,
        fetcher=GuardedFetcher(OutboundRules()),
        own=house.authority,
        settings=RevocationSettings(check=False),
        clock=house.clock,
        chance=FakeChance(),
        metrics=Metrics(),
    )
    good, bad = await house.issue(), await house.issue()
    await house.issuer.revoke(bad, reason=4)
    now = house.clock.now()
    verdicts = [(await judge(read_leaf(chain), source=lists, now=now))[0] for chain in (good, bad)]
    assert [(verdict.state, verdict.reason) for verdict in verdicts] == [("good", ""), ("revoked", "superseded")]
    assert verdicts[1].revoked_at == now.replace(microsecond=0)
