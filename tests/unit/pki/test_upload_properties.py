"""What holds for every text that may be uploaded."""

import base64
import random

import pytest
from cryptography import x509
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certorbit.errors import BadMaterial
from certorbit.model.entry import Side
from certorbit.model.material import Material
from certorbit.pki.chain import order_chain
from certorbit.pki.pem import read_blocks, read_certificates
from certorbit.pki.public_key import hash_public_key
from certorbit.pki.read import read_facts
from certorbit.pki.upload import read_upload
from make import make_authorities, make_certificate, make_chain, make_key, pem, write_key

CHAIN = make_chain(depth=5)
OTHERS = make_chain(names=["other.example.com"], depth=4, key_index=1)
UNRELATED = [
    make_certificate(key=make_key(index=n), subject=f"CN=Unrelated {n}", is_ca=bool(n % 2)) for n in range(60, 64)
]
COMBINED = CHAIN.chain_pem + CHAIN.key_pem + make_chain(key="rsa-2048").traditional_key_pem
FRAGMENTS = [
    "-----BEGIN ",
    "-----END ",
    "-----",
    "CERTIFICATE",
    "PRIVATE KEY",
    "Proc-Type: 4,ENCRYPTED",
    "\r",
    "\n",
    "\0",
    "\ud800",
    "\ufeff",
    *CHAIN.leaf_pem.splitlines(keepends=True),
    *CHAIN.traditional_key_pem.splitlines(keepends=True),
    CHAIN.leaf_pem,
    CHAIN.key_pem,
]
# cryptography warns about serial numbers of zero and less, which a changed certificate may have.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")
any_text = st.text() | st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=40).map("".join)
sides = st.sampled_from(Side)


def upload_or_refuse(body: str, key: str, side: Side) -> Material | None:
    """Return None for a refusal; every other exception is a defect."""
    try:
        return read_upload(body, key, side=side)
    except BadMaterial as error:
        refusal = error
    assert refusal.subject in {"cert_body", "private_key"}
    assert refusal.message.startswith(refusal.subject)
    return None


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """Some characters changed, cut out or doubled."""
    characters = list(text)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(characters)))
        length = draw(st.integers(0, 40))
        characters[start : start + length] = draw(st.text(max_size=4) | st.sampled_from(FRAGMENTS))
    return "".join(characters)


@st.composite
def mutated_certificate(draw: st.DrawFn) -> str:
    """Well-formed PEM around a certificate of which some bytes are others."""
    der = bytearray(base64.b64decode("".join(CHAIN.leaf_pem.splitlines()[1:-1])))
    for _ in range(draw(st.integers(1, 3))):
        der[draw(st.integers(0, len(der) - 1))] = draw(st.integers(0, 255))
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(bytes(der)).decode()}-----END CERTIFICATE-----\n"


@given(body=any_text, key=any_text, side=sides)
@example(body="-----BEGIN " * 20_000, key="", side=Side.SERVER)
@example(body="-----BEGIN A-----" * 10_000, key="-----" * 50_000, side=Side.SERVER)
@example(body=":\n" * 130_000, key="-----BEGIN PRIVATE KEY-----" + ":" * 200_000, side=Side.SERVER)
@settings(max_examples=100, deadline=None)
def test_any_text_is_accepted_or_refused_with_a_message(body: str, key: str, side: Side) -> None:
    upload_or_refuse(body, key, side)


@given(text=mutated(COMBINED), side=sides)
@settings(max_examples=80, deadline=None)
def test_damaged_files_are_accepted_or_refused_with_a_message(text: str, side: Side) -> None:
    upload_or_refuse(text, "", side)
    upload_or_refuse(CHAIN.chain_pem, text, side)


@given(body=mutated_certificate(), side=sides)
@settings(max_examples=200, deadline=None)
def test_damaged_certificates_are_accepted_or_refused_with_a_message(body: str, side: Side) -> None:
    upload_or_refuse(body, "" if side.is_ca_bundle else CHAIN.key_pem, side)


@given(text=any_text)
def test_the_reader_raises_nothing_but_bad_material(text: str) -> None:
    try:
        read_blocks(text, subject="cert_body")
        read_certificates(text)
    except BadMaterial:
        return


@given(body=mutated(CHAIN.chain_pem + OTHERS.chain_pem), key=mutated(CHAIN.key_pem + OTHERS.key_pem))
@settings(max_examples=60, deadline=None)
def test_what_is_accepted_has_the_key_of_its_leaf(body: str, key: str) -> None:
    for attempt in (key, CHAIN.key_pem):
        material = upload_or_refuse(body, attempt, Side.SERVER)
        if material is not None:
            assert material.key is not None
            leaf = x509.load_pem_x509_certificate(material.chain_pem.encode())
            stored = read_upload(pem(leaf), material.key.reveal(), side=Side.SERVER)
            assert stored.facts.public_key_sha256 == hash_public_key(leaf.public_key())


@given(
    certificate=st.sampled_from([("ecdsa-p256", 0), ("ecdsa-p384", 0), ("rsa-2048", 0)]),
    key=st.sampled_from([("ecdsa-p256", 1), ("ecdsa-p384", 1), ("rsa-2048", 1), ("ecdsa-p521", 0)]),
    form=st.sampled_from(["pkcs8", "traditional"]),
)
@settings(deadline=None, max_examples=24)
def test_a_key_of_another_pair_is_never_accepted(certificate: tuple[str, int], key: tuple[str, int], form: str) -> None:
    chain = make_chain(key=certificate[0], key_index=certificate[1])
    with pytest.raises(BadMaterial, match="does not fit"):
        read_upload(chain.chain_pem, write_key(make_key(*key), form), side=Side.SERVER)


@given(seed=st.integers(0, 2**32), extra=st.integers(0, 6))
@settings(deadline=None, max_examples=30)
def test_the_order_of_the_input_does_not_matter(seed: int, extra: int) -> None:
    pool = [CHAIN.leaf, *CHAIN.issuers, *UNRELATED, OTHERS.leaf][: 5 + extra]
    random.Random(seed).shuffle(pool)
    assert order_chain(pool, leaf=CHAIN.leaf) == (CHAIN.leaf, *CHAIN.issuers)
    assert read_upload(pem(*pool), CHAIN.key_pem, side=Side.SERVER).chain_pem == pem(CHAIN.leaf, *CHAIN.issuers)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_of_several_possible_chains_always_the_same_one_is_taken(seed: int) -> None:
    pool = [CHAIN.leaf, *CHAIN.issuers, *make_authorities(4), *make_authorities(3)]
    expected = order_chain(pool, leaf=CHAIN.leaf)
    random.Random(seed).shuffle(pool)
    assert order_chain(pool, leaf=CHAIN.leaf) == expected


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_without_a_leaf_the_chain_starts_at_the_one_that_issued_none(seed: int) -> None:
    pool = [CHAIN.leaf, *CHAIN.issuers]
    random.Random(seed).shuffle(pool)
    assert order_chain(pool) == (CHAIN.leaf, *CHAIN.issuers)


def test_two_uploads_of_one_file_give_the_same_material() -> None:
    first, second = (read_upload(CHAIN.chain_pem, CHAIN.key_pem, side=Side.SERVER) for _ in range(2))
    assert first == second
    assert first.facts == read_facts(CHAIN.leaf)
