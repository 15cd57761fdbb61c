"""Certificates, chains, keys, stores and revocation lists: whatever comes is taken, or refused with a message."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from hypothesis import given
from hypothesis import strategies as st

from certorbit.errors import BadMaterial, CRLUnusable
from certorbit.model.entry import Side
from certorbit.model.material import CertificateFacts, Material
from certorbit.pki.bundle_lists import find_places
from certorbit.pki.chain import check_issue
from certorbit.pki.crl import check_bundle_crls, read_crls
from certorbit.pki.crl_check import check_dates, check_follows, check_scope, check_signed_by, find_revoked
from certorbit.pki.crl_check import read_crl as index_crl
from certorbit.pki.crl_points import read_leaf
from certorbit.pki.pem import read_certificates
from certorbit.pki.pfx import read_pfx
from certorbit.pki.pfx_child import open_store
from certorbit.pki.public_key import hash_public_key
from certorbit.pki.read import read_facts
from certorbit.pki.upload import read_upload
from fuzz.holding import EXAMPLES, Secrets, bounded, check_steady, hold
from fuzz.hostile_bundles import BUNDLES, hostile_bundles
from fuzz.mutating import damaged_bytes, damaged_der, damaged_text, pem_of, read_pem
from make import NOW, crl_scope, distribution_points, make_chain, make_crl, make_key, pem, revoke, write_key
from unit.pki import pfx_stores

# cryptography warns about what it reads all the same: serials of zero and less, names with bad lengths.
pytestmark = pytest.mark.filterwarnings("ignore")

URL = "http://crl.example.test/1.crl"
CHAIN = make_chain(names=["www.example.com", "10.1.2.3", "2001:db8::1"], extensions=[distribution_points([URL])])
RSA = make_chain(key="rsa-2048")
OTHER = make_chain(names=["other.example.com"], key_index=1)
RICH = make_chain(
    names=["rich.example.com"],
    key_index=2,
    extensions=[
        x509.NameConstraints([x509.DNSName("example.com")], None),
        x509.CertificatePolicies(
            [x509.PolicyInformation(x509.ObjectIdentifier("2.23.140.1.2.1"), ["https://cps.test"])]
        ),
        x509.IssuerAlternativeName([x509.RFC822Name("ca@example.com"), x509.DirectoryName(CHAIN.leaf.subject)]),
        x509.AuthorityInformationAccess(
            [x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(URL))]
        ),
        x509.TLSFeature([x509.TLSFeatureType.status_request]),
        distribution_points([URL, "ldap://x"], ["https://b.test/2.crl"]),
    ],
)
LEAVES = [chain.leaf.public_bytes(Encoding.DER) for chain in (CHAIN, RSA, RICH)]
KEYS = [read_pem(text) for text in (CHAIN.key_pem, CHAIN.traditional_key_pem, RSA.key_pem, RSA.traditional_key_pem)]
SECRETS = Secrets([*KEYS, read_pem(OTHER.key_pem)])
FRAGMENTS = [
    "-----",
    "-----BEGIN ",
    "-----END ",
    "PRIVATE KEY",
    "CERTIFICATE",
    "Proc-Type: 4,ENCRYPTED\n",
    "\0",
    "\ud800",
]
CRL = make_crl(
    CHAIN.issuers[0],
    CHAIN.issuer_keys[0],
    revoked=[
        revoke(CHAIN.leaf.serial_number, reason=x509.ReasonFlags.key_compromise),
        revoke(5, extensions=[(x509.InvalidityDate(NOW.replace(tzinfo=None)), False)]),
    ],
    authority_key_id=b"\x01" * 20,
    extensions=[(crl_scope(URL, user=True), True)],
)
CRLS = [CRL, make_crl(CHAIN.issuers[0], CHAIN.issuer_keys[0], revoked=[7])]
crl_pem = pem_of("X509 CRL")
certificate_pem = pem_of("CERTIFICATE")


def take_facts(material: Material) -> None:
    """What was taken is fit to be stored and shown."""
    facts = material.facts
    assert_printable(facts)
    assert (material.key is None) == ("PRIVATE" not in (material.key.reveal() if material.key else ""))
    first = read_facts(read_certificates(material.chain_pem)[0])
    assert first.fingerprint == facts.fingerprint  # its end may be another one's, in a bundle
    assert first.not_after >= facts.not_after


def assert_printable(facts: CertificateFacts) -> None:
    for text in (facts.subject, facts.issuer, *facts.san, *facts.cdp, facts.serial, facts.key_algorithm):
        assert text.isprintable(), text
    assert facts.not_before.tzinfo is not None
    assert facts.not_after.tzinfo is not None


def upload(body: str, key: str, side: Side = Side.SERVER) -> None:
    material = read_upload(body, key, side=side)
    take_facts(material)
    if material.key is not None:
        (leaf, *_) = read_certificates(material.chain_pem)
        own = read_upload(pem(leaf), material.key.reveal(), side=Side.SERVER)
        assert own.facts.public_key_sha256 == hash_public_key(leaf.public_key())


def take_issue(body: str) -> None:
    """A CA's answer that is taken is for our name and our key."""
    facts = check_issue(body, identifiers=CHAIN_NAMES, public_key_sha256=CHAIN_KEY, now=NOW)
    assert facts.public_key_sha256 == CHAIN_KEY
    assert {name.lower() for name in facts.san} == set(CHAIN_NAMES)


def take_crl(content: bytes) -> None:
    """A list that passes all checks is the issuer's own, byte by byte of its signed part."""
    index = index_crl(content)
    check_dates(index, now=NOW)
    check_follows(index, number=7, this_update=NOW - timedelta(hours=1))
    check_scope(index, is_ca=False, urls=frozenset({URL}))
    find_revoked(index, CHAIN.leaf.serial_number)
    find_revoked(index, 5)
    check_signed_by(index, CHAIN.issuers[0])
    assert index.crl.tbs_certlist_bytes in {x509.load_der_x509_crl(crl).tbs_certlist_bytes for crl in CRLS}


def take_bundle(given: tuple[str, Sequence[str]]) -> None:
    """What was taken at the upload is what the hourly look can read, and it finds the list of a CA again."""
    body, lists = given
    bundle = read_upload(body, "", side=Side.CLIENT_CA)
    crls = read_crls(lists)
    check_bundle_crls(crls, bundle_pem=bundle.chain_pem)
    places = find_places(bundle.chain_pem, crls)
    assert sum(place.held is not None for place in places) == len(crls)


def take_store(store: bytes) -> None:
    key, chain = open_store(store, None)
    if key is not None:
        assert key.startswith("-----BEGIN PRIVATE KEY-----")
    if chain:
        read_certificates(chain)


CHAIN_NAMES = read_facts(CHAIN.leaf).san
CHAIN_KEY = read_facts(CHAIN.leaf).public_key_sha256
STORES = [
    pfx_stores.store(
        pfx_stores.plain(pfx_stores.key_bag(CHAIN.key), *map(pfx_stores.certificate_bag, (CHAIN.leaf, CHAIN.root)))
    ),
    pfx_stores.store(pfx_stores.plain(pfx_stores.certificate_bag(RICH.leaf)), pfx_stores.plain()),
]
SEALED_STORE = serialize_key_and_certificates(b"name", CHAIN.key, CHAIN.leaf, CHAIN.issuers, NoEncryption())


@dataclass(frozen=True)
class EntryPoint:
    """inputs: what comes. call: what takes it."""

    inputs: st.SearchStrategy[Any]
    call: Callable[[Any], object]


leaves = damaged_der(LEAVES).map(certificate_pem)
ENTRY_POINTS = {
    "certificates as text": EntryPoint(
        damaged_text([CHAIN.chain_pem, RICH.leaf_pem + CHAIN.key_pem], FRAGMENTS), read_certificates
    ),
    "any text": EntryPoint(
        st.text()
        | st.lists(st.sampled_from([*FRAGMENTS, CHAIN.leaf_pem, CHAIN.key_pem]) | st.text(max_size=8)).map("".join),
        lambda text: upload(text, text),
    ),
    "a certificate of damaged DER": EntryPoint(leaves, lambda body: upload(body, CHAIN.key_pem)),
    "a certificate of damaged bytes": EntryPoint(
        damaged_bytes(LEAVES).map(certificate_pem), lambda body: upload(body, CHAIN.key_pem)
    ),
    "a CA bundle of damaged DER": EntryPoint(
        damaged_der([issuer.public_bytes(Encoding.DER) for issuer in CHAIN.issuers]).map(certificate_pem),
        lambda body: upload(body + CHAIN.root_pem, "", Side.CLIENT_CA),
    ),
    "a chain with damaged DER in it": EntryPoint(
        leaves, lambda body: upload(CHAIN.chain_pem + body + RICH.chain_pem, CHAIN.key_pem)
    ),
    "a key of damaged DER": EntryPoint(
        st.tuples(damaged_der(KEYS), st.sampled_from(["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"])),
        lambda key: upload(CHAIN.chain_pem, pem_of(key[1])(key[0])),
    ),
    "a key as text": EntryPoint(
        damaged_text([CHAIN.key_pem, CHAIN.traditional_key_pem, RSA.traditional_key_pem], FRAGMENTS),
        lambda key: upload(CHAIN.chain_pem + RSA.chain_pem, key),
    ),
    "a key among certificates": EntryPoint(
        damaged_text([CHAIN.chain_pem + CHAIN.key_pem, OTHER.key_pem + CHAIN.key_pem + CHAIN.leaf_pem], FRAGMENTS),
        lambda body: upload(body, ""),
    ),
    "a CA's answer": EntryPoint(
        leaves.map(lambda leaf: leaf + CHAIN.intermediates_pem) | damaged_text([CHAIN.chain_pem], FRAGMENTS), take_issue
    ),
    "distribution points": EntryPoint(leaves, lambda leaf: read_leaf(leaf + CHAIN.issuers_pem)),
    "a list given at upload": EntryPoint(
        damaged_der(CRLS).map(crl_pem) | damaged_text([crl_pem(CRL)], FRAGMENTS), lambda text: read_crls([text])
    ),
    "a CA bundle with lists": EntryPoint(hostile_bundles(), take_bundle),
    "a list that was downloaded": EntryPoint(
        damaged_der(CRLS) | damaged_bytes([*CRLS, crl_pem(CRL).encode()]), take_crl
    ),
    "a PKCS#12 store": EntryPoint(damaged_der(STORES) | damaged_bytes([*STORES, SEALED_STORE]), take_store),
}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_any_input_is_taken_or_refused(name: str) -> None:
    entry, seen = ENTRY_POINTS[name], []

    @given(value=entry.inputs)
    @bounded()
    def check(value: Any) -> None:
        if len(seen) < 100:
            seen.append(value)
        hold(lambda: entry.call(value), secrets=SECRETS)

    check()
    check_steady(entry.call, seen)


@given(store=damaged_der(STORES) | damaged_bytes([SEALED_STORE]), password=st.none() | st.binary(max_size=12))
@bounded(examples=max(5, EXAMPLES // 50))  # each one is a process
def test_any_store_is_opened_or_refused_by_its_process(store: bytes, password: bytes | None) -> None:
    hold(lambda: read_pfx(store, password), secrets=SECRETS)


def test_a_store_with_an_ec_scalar_longer_than_its_curve_is_refused() -> None:
    """Found by this fuzzing: OpenSSL reads such a key and then can't write it, with an error of no known kind."""
    scalar = CHAIN.key.private_numbers().private_value
    sec1 = pfx_stores.sequence(pfx_stores.integer(1), pfx_stores.octets(b"\1" + scalar.to_bytes(40, "big")))
    algorithm = pfx_stores.sequence(pfx_stores.oid("1.2.840.10045.2.1"), pfx_stores.oid("1.2.840.10045.3.1.7"))
    key = pfx_stores.sequence(pfx_stores.integer(0), algorithm, pfx_stores.octets(sec1))
    bag = pfx_stores.sequence(pfx_stores.oid(pfx_stores.KEY_BAG), pfx_stores.tlv(0xA0, key))
    with pytest.raises(BadMaterial, match="or the store is damaged"):
        open_store(pfx_stores.store(pfx_stores.plain(bag)), None)


def test_what_is_fuzzed_is_taken_undamaged() -> None:
    upload(CHAIN.chain_pem, CHAIN.key_pem)
    upload(RICH.chain_pem, RICH.key_pem)
    upload(CHAIN.issuers_pem, "", Side.CLIENT_CA)
    take_issue(CHAIN.chain_pem)
    for store in (*STORES, SEALED_STORE):
        take_store(store)
    for bundle in BUNDLES:
        take_bundle(bundle)
    assert len(read_leaf(RICH.chain_pem).points) == 2
    assert len(read_crls([crl_pem(CRL)])) == 1
    for content in CRLS:
        take_crl(content)
    with pytest.raises(CRLUnusable, match="forged or damaged"):
        take_crl(make_crl(CHAIN.issuers[0], make_key(index=9)))
    assert Secrets([read_pem(CHAIN.key_pem)]).find_in(f"xx{CHAIN.key_pem}") != ""
    assert KEYS[0] == CHAIN.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(BadMaterial):
        upload(CHAIN.chain_pem, write_key(make_key(index=9)))
