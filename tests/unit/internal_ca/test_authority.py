"""The built-in CA: made once, kept within its limits, and believed by openssl."""

import asyncio
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from certorbit.errors import BadIdentifier, Broken, IssuerRefused
from certorbit.internal_ca.authority import ISSUING_CONTEXT, ROOT_CONTEXT, InternalAuthority
from certorbit.internal_ca.certificates import Signer, make_leaf
from certorbit.internal_ca.issuer import InternalIssuer
from certorbit.internal_ca.request import read_request
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.material import KeyType, PrivateKeyPEM
from certorbit.pki.csr import make_csr
from certorbit.pki.private_key import load_own_key, make_key
from certorbit.settings import InternalCASettings
from fakes.clock import FakeClock
from fakes.memory_authorities import MemoryAuthorityStore
from fakes.memory_keyring import MemoryKeyring
from make import make_chain
from programs import require_program

KEY = make_key(KeyType.ECDSA_P256)
URL = "https://certs.example.com/"


class Deployment:
    """One store, one keyring, one clock; `process()` is one more process on them."""

    def __init__(self, **settings: Any) -> None:
        self.store = MemoryAuthorityStore()
        self.keyring = MemoryKeyring()
        self.clock = FakeClock()
        self.settings = InternalCASettings(**settings)

    def process(self, *, public_url: str = URL, **settings: object) -> InternalAuthority:
        return InternalAuthority(
            store=self.store,
            keyring=self.keyring,
            clock=self.clock,
            settings=self.settings.model_copy(update=settings),
            public_url=public_url,
        )

    async def issue(self, *names: str, authority: InternalAuthority | None = None) -> list[x509.Certificate]:
        issuer = InternalIssuer("internal", authority=authority or self.process())
        identifiers = normalise_identifiers(names)
        order_url = await issuer.place_order(identifiers)
        await issuer.finalise(order_url, csr_der=make_csr(KEY, identifiers))
        return x509.load_pem_x509_certificates((await issuer.collect(order_url)).encode())


def openssl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [require_program("openssl"), *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def verify(
    tmp_path: Path, root_pem: str, chain: list[x509.Certificate], at: datetime, *more: str
) -> "subprocess.CompletedProcess[str]":
    """Let openssl judge the chain, strictly."""
    leaf, issuing, root = tmp_path / "leaf.pem", tmp_path / "issuing.pem", tmp_path / "root.pem"
    leaf.write_bytes(chain[0].public_bytes(Encoding.PEM))
    issuing.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in chain[1:]))
    root.write_text(root_pem)
    when = ("-attime", str(int(at.timestamp())), "-x509_strict", "-no-CAfile", "-no-CApath")
    return openssl("verify", *when, "-CAfile", str(root), "-untrusted", str(issuing), *more, str(leaf))


def extension(certificate: x509.Certificate, kind: Any) -> Any:
    return certificate.extensions.get_extension_for_class(kind)


async def test_openssl_verifies_a_leaf_against_the_root_for_name_and_purpose(tmp_path: Path) -> None:
    deployment = Deployment()
    authority = deployment.process()
    chain = await deployment.issue("www.example.test", "*.example.test", "192.0.2.7", authority=authority)
    root = await authority.root_pem()
    for more in (("-verify_hostname", "www.example.test"), ("-verify_ip", "192.0.2.7"), ("-purpose", "sslclient")):
        run = verify(tmp_path, root, chain, deployment.clock.now(), "-purpose", "sslserver", *more)
        assert run.returncode == 0, run.stderr


async def test_cryptographys_web_pki_verifier_takes_the_chain() -> None:
    deployment = Deployment()
    authority = deployment.process()
    leaf, issuing = await deployment.issue("www.example.test", authority=authority)
    roots = x509.load_pem_x509_certificates((await authority.root_pem()).encode())
    verifier = PolicyBuilder().store(Store(roots)).time(deployment.clock.now())
    verified = verifier.build_server_verifier(x509.DNSName("www.example.test")).verify(leaf, [issuing])
    assert verified == [leaf, issuing, roots[0]]


async def test_the_three_certificates_say_what_they_are_for() -> None:
    deployment = Deployment(organization="Ex. & Co")
    authority = deployment.process()
    leaf, issuing = await deployment.issue("www.example.test", authority=authority)
    root = x509.load_pem_x509_certificate((await authority.root_pem()).encode())
    assert [extension(c, x509.BasicConstraints).value.path_length for c in (root, issuing, leaf)] == [1, 0, None]
    assert [extension(c, x509.BasicConstraints).value.ca for c in (root, issuing, leaf)] == [True, True, False]
    assert [extension(c, x509.KeyUsage).value.key_cert_sign for c in (root, issuing, leaf)] == [True, True, False]
    assert all(c.issuer.rfc4514_string().endswith("O=Ex. & Co") for c in (root, issuing, leaf))
    assert all(0 < c.serial_number < 2**159 for c in (root, issuing, leaf))
    for lower, upper in ((leaf, issuing), (issuing, root)):
        authority_key = extension(lower, x509.AuthorityKeyIdentifier).value.key_identifier
        assert authority_key == extension(upper, x509.SubjectKeyIdentifier).value.digest
    assert root.not_valid_after_utc - issuing.not_valid_after_utc == timedelta(days=1)


async def test_a_leaf_lives_as_long_as_the_settings_say_and_names_its_crl() -> None:
    deployment = Deployment(lifetime_days=7)
    leaf, _ = await deployment.issue("www.example.test")
    assert leaf.not_valid_after_utc == deployment.clock.now() + timedelta(days=7)
    assert leaf.not_valid_before_utc == deployment.clock.now() - timedelta(minutes=5)
    (point,) = extension(leaf, x509.CRLDistributionPoints).value
    assert point.full_name[0].value == "https://certs.example.com/crl/internal.crl"


async def test_without_a_public_url_no_crl_is_named() -> None:
    deployment = Deployment()
    leaf, _ = await deployment.issue("a.example", authority=deployment.process(public_url=""))
    with pytest.raises(x509.ExtensionNotFound):
        extension(leaf, x509.CRLDistributionPoints)


@pytest.mark.parametrize("names", [["192.0.2.7"], [("a" * 60) + ".example.test"]], ids=["address", "long name"])
async def test_without_a_common_name_the_san_is_critical(names: list[str]) -> None:
    leaf, _ = await Deployment().issue(*names)
    assert not list(leaf.subject)
    assert extension(leaf, x509.SubjectAlternativeName).critical
    named, _ = await Deployment().issue("short.example")
    assert not extension(named, x509.SubjectAlternativeName).critical


async def test_a_leaf_never_outlives_the_issuing_certificate_and_at_its_end_nothing_is_issued() -> None:
    deployment = Deployment(root_years=1, lifetime_days=90)
    authority = deployment.process()
    await authority.ensure()
    deployment.clock.advance(days=330)
    leaf, issuing = await deployment.issue("a.example", authority=authority)
    assert leaf.not_valid_after_utc == issuing.not_valid_after_utc
    deployment.clock.advance(days=40)
    with pytest.raises(IssuerRefused, match="The built-in CA ended at") as refusal:
        await deployment.issue("b.example", authority=authority)
    assert refusal.value.type == "urn:ietf:params:acme:error:serverInternal"


async def test_of_racing_processes_one_makes_the_authority_and_all_use_it() -> None:
    deployment = Deployment()
    processes = [deployment.process() for _ in range(4)]
    await asyncio.gather(*(process.ensure() for process in processes))
    assert deployment.store.lost_races >= 1
    assert len({await process.root_pem() for process in processes}) == 1
    chains = [await deployment.issue("a.example", authority=process) for process in processes]
    for leaf, issuing in chains:
        leaf.verify_directly_issued_by(issuing)
    assert len({issuing for _, issuing in chains}) == 1


async def test_a_second_start_finds_the_authority_of_the_first() -> None:
    deployment = Deployment()
    first = await deployment.process().root_pem()
    deployment.clock.advance(days=10)
    assert await deployment.process().root_pem() == first


async def test_the_keys_are_sealed_each_for_its_own_place() -> None:
    deployment = Deployment()
    await deployment.process().ensure()
    stored = deployment.store.authorities.authority
    assert stored is not None
    for envelope, context, pem in (
        (stored.sealed_root_key, ROOT_CONTEXT, stored.root_pem),
        (stored.sealed_issuing_key, ISSUING_CONTEXT, stored.issuing_pem),
    ):
        key = load_own_key(PrivateKeyPEM(deployment.keyring.open(envelope, context=context).decode()))
        assert key.public_key() == x509.load_pem_x509_certificate(pem.encode()).public_key()
        assert b"PRIVATE" not in envelope
    deployment.store.authorities.authority = replace(stored, sealed_issuing_key=stored.sealed_root_key)
    with pytest.raises(Broken, match="not made for"):
        await deployment.issue("a.example")
    rsa_key = deployment.keyring.seal(make_chain(key="rsa-2048").key_pem.encode(), context=ISSUING_CONTEXT)
    deployment.store.authorities.authority = replace(stored, sealed_issuing_key=rsa_key)
    with pytest.raises(Broken, match="not an ECDSA key"):
        await deployment.issue("a.example")


LIMITED = {"permitted_names": ("Example.test", "*.corp.example", ".internal")}


@pytest.mark.parametrize(
    "name", ["example.test", "a.b.example.test", "*.example.test", "x.corp.example", "db.internal"]
)
async def test_names_within_the_limits_are_issued_and_openssl_agrees(name: str, tmp_path: Path) -> None:
    deployment = Deployment(**LIMITED)
    authority = deployment.process()
    chain = await deployment.issue(name, authority=authority)
    root = await authority.root_pem()
    assert verify(tmp_path, root, chain, deployment.clock.now()).returncode == 0


@pytest.mark.parametrize("name", ["example.com", "notexample.test", "*.test.example", "192.0.2.1", "2001:db8::1"])
async def test_names_outside_are_refused_and_openssl_would_refuse_them_too(name: str, tmp_path: Path) -> None:
    deployment = Deployment(**LIMITED)
    authority = deployment.process()
    with pytest.raises(IssuerRefused, match="may not issue for") as refusal:
        await deployment.issue("www.example.test", name, authority=authority)
    assert refusal.value.type == "urn:ietf:params:acme:error:rejectedIdentifier"
    assert refusal.value.subproblems == {name: f"{name} is not in example.test or corp.example or internal"}
    assert deployment.store.authorities.issued == {}

    # Even a leaf that gets past our check is worth nothing: the root itself is constrained.
    stored = deployment.store.authorities.authority
    assert stored is not None
    pem = deployment.keyring.open(stored.sealed_issuing_key, context=ISSUING_CONTEXT).decode()
    issuing = x509.load_pem_x509_certificate(stored.issuing_pem.encode())
    forged = make_leaf(
        read_request(make_csr(KEY, normalise_identifiers([name]))),
        issuing=Signer(issuing, load_own_key(PrivateKeyPEM(pem))),  # type: ignore[arg-type]
        now=deployment.clock.now(),
        life=timedelta(days=1),
        crl_url="",
    )
    run = verify(tmp_path, stored.root_pem, [forged, issuing], deployment.clock.now())
    assert run.returncode != 0
    assert "permitted subtree violation" in run.stderr or "excluded subtree violation" in run.stderr


async def test_the_limits_of_the_root_hold_when_the_settings_are_loosened_and_new_ones_at_once() -> None:
    deployment = Deployment(**LIMITED)
    await deployment.process().ensure()
    loosened = deployment.process(permitted_names=())
    with pytest.raises(IssuerRefused, match="may not issue for"):
        await deployment.issue("www.example.com", authority=loosened)
    tightened = deployment.process(permitted_names=("corp.example",))
    with pytest.raises(IssuerRefused, match="may not issue for"):
        await deployment.issue("www.example.test", authority=tightened)
    assert await deployment.issue("a.corp.example", authority=tightened)


@pytest.mark.parametrize("name", ["", "*", "10.0.0.0/8", "192.0.2.1", "a..b", "*.*.example.com", "a b"])
def test_a_limit_that_is_no_dns_subtree_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(BadIdentifier, match=r"internal_ca\.permitted_names"):
        Deployment(permitted_names=(name,)).process()


async def test_a_certificate_of_another_ca_cannot_be_revoked() -> None:
    deployment = Deployment()
    with pytest.raises(IssuerRefused, match="not issued by the built-in CA") as refusal:
        await deployment.process().revoke(make_chain().leaf, reason=1)
    assert refusal.value.type == "urn:ietf:params:acme:error:unauthorized"
