"""What may be uploaded and what may not, case by case (contract.md, Certificates, 'Upload')."""

import base64
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import pytest
from cryptography import x509

from certorbit.model.entry import Side
from certorbit.pki.read import read_facts
from certorbit.pki.upload import MOST_SERVED, read_upload
from make import NOW, Chain, make_certificate, make_chain, make_key, pem

EC = make_chain()
OTHER = make_chain(names=["other.example.com"], key_index=1)
DEEP = make_chain(depth=8, key_index=2)
BAG = "Bag Attributes\n    friendlyName: www: example\n    localKeyID: 01 02\nsubject=CN = www\n"


@cache
def rsa_chain() -> Chain:
    return make_chain(key="rsa-2048")


def armour(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


@dataclass(frozen=True)
class Input:
    body: str
    key: str = ""
    side: Side = Side.SERVER


@dataclass(frozen=True)
class Accepted:
    """What must come out: the chain, leaf first; None for the key of a CA bundle."""

    upload: Input
    chain: tuple[x509.Certificate, ...]
    key: str | None


def served(body: str, key: str | None = None, *, of: Chain = EC, root: bool = False) -> Accepted:
    return Accepted(
        Input(body, of.key_pem if key is None else key),
        chain=(of.leaf, *(of.issuers if root else of.issuers[:-1])),
        key=of.key_pem,
    )


def only_leaf(chain: Chain, key: str | None = None) -> Accepted:
    return Accepted(Input(chain.leaf_pem, key or chain.key_pem), chain=(chain.leaf,), key=chain.key_pem)


def bundle(*certificates: x509.Certificate, side: Side = Side.CLIENT_CA, around: str = "") -> Accepted:
    return Accepted(Input(around + pem(*certificates), side=side), chain=tuple(dict.fromkeys(certificates)), key=None)


def cross_signed() -> Accepted:
    """Two cross-signs of one intermediate: the one that lasts longer is in the chain."""
    intermediate, root = EC.issuers
    other_root = make_certificate(key=make_key(index=50), subject="CN=Old Root", is_ca=True, days=400)
    older = make_certificate(
        key=EC.issuer_keys[0],
        subject=intermediate.subject,
        issuer=other_root,
        issuer_key=make_key(index=50),
        is_ca=True,
        days=399,
    )
    return Accepted(
        Input(pem(older, other_root, root, intermediate, EC.leaf), EC.key_pem),
        chain=(EC.leaf, intermediate, root),
        key=EC.key_pem,
    )


def same_key_twice() -> Accepted:
    """A self-signed stand-in, last year's and this year's certificate, all of one key."""
    stand_in = make_certificate(key=EC.key, subject="CN=www.example.com", names=["www.example.com"], days=9000)
    old = make_certificate(
        key=EC.key,
        subject="CN=www.example.com",
        names=["www.example.com"],
        issuer=EC.issuers[0],
        issuer_key=EC.issuer_keys[0],
        days=-10,
    )
    return Accepted(
        Input(pem(stand_in, old, EC.leaf) + EC.intermediates_pem, EC.key_pem),
        chain=(EC.leaf, EC.issuers[0]),
        key=EC.key_pem,
    )


def self_signed_ca() -> Accepted:
    """What `openssl req -x509` makes: a server certificate that says CA:TRUE."""
    return only_leaf(make_chain(depth=1, is_ca=True))


FULL = EC.leaf_pem + EC.issuers_pem
ACCEPTED: dict[str, Callable[[], Accepted]] = {
    "ok/leaf alone": lambda: only_leaf(EC),
    "ok/leaf, intermediate": lambda: served(EC.chain_pem),
    "ok/intermediate, leaf": lambda: served(EC.intermediates_pem + EC.leaf_pem),
    "ok/leaf, intermediate, root": lambda: served(FULL, root=True),
    "ok/root, intermediate, leaf": lambda: served(pem(EC.root, EC.issuers[0], EC.leaf), root=True),
    "ok/intermediate, leaf, root": lambda: served(pem(EC.issuers[0], EC.leaf, EC.root), root=True),
    "ok/eight certificates upside down": lambda: served(pem(*reversed(DEEP.issuers), DEEP.leaf), of=DEEP, root=True),
    "ok/every certificate twice": lambda: served(EC.chain_pem * 2),
    "ok/unrelated certificates are left out": lambda: served(OTHER.leaf_pem + EC.chain_pem + DEEP.leaf_pem),
    "ok/of two cross-signs the longer one": cross_signed,
    "ok/of three certificates of one key the newest issued one": same_key_twice,
    "ok/self-signed with CA:TRUE": self_signed_ca,
    "ok/CRLF line ends": lambda: served(FULL.replace("\n", "\r\n"), EC.key_pem.replace("\n", "\r\n"), root=True),
    "ok/CR line ends": lambda: served(FULL.replace("\n", "\r"), EC.key_pem.replace("\n", "\r"), root=True),
    "ok/blank lines between all lines": lambda: served(EC.chain_pem.replace("\n", "\n\n \n")),
    "ok/white space before and behind": lambda: served(f" \n\t{EC.chain_pem} \n\n", f"\n\n {EC.key_pem}\t"),
    "ok/indented": lambda: served(textwrap.indent(EC.chain_pem, "    "), textwrap.indent(EC.key_pem, "\t")),
    "ok/no line end at the end": lambda: served(EC.chain_pem.strip(), EC.key_pem.strip()),
    "ok/all on one line": lambda: served(" ".join(EC.chain_pem.split("\n")), " ".join(EC.key_pem.split("\n"))),
    "ok/byte order marks": lambda: served(f"\ufeff{EC.leaf_pem}\ufeff{EC.intermediates_pem}", f"\ufeff{EC.key_pem}"),
    "ok/comments around the blocks": lambda: served(f"# my leaf\n{EC.leaf_pem}its CA: --\n{EC.intermediates_pem}.."),
    "ok/Bag Attributes": lambda: served(BAG + EC.leaf_pem + BAG + EC.intermediates_pem, BAG + EC.key_pem),
    "ok/prose that looks like a marker": lambda: served("-----BEGIN of my file\n-----\n" + EC.chain_pem),
    "ok/lone surrogates around the blocks": lambda: served("\ud800" + EC.chain_pem + "\udfff"),
    "ok/old certificate label": lambda: served(EC.chain_pem.replace(" CERTIFICATE-", " X509 CERTIFICATE-")),
    "ok/ecdsa, SEC1 key": lambda: only_leaf(EC, EC.traditional_key_pem),
    "ok/ecdsa, SEC1 key after its parameters": lambda: only_leaf(
        EC, armour("EC PARAMETERS", bytes.fromhex("06082a8648ce3d030107")) + EC.traditional_key_pem
    ),
    "ok/ecdsa P-384": lambda: only_leaf(make_chain(key="ecdsa-p384")),
    "ok/ecdsa P-521": lambda: only_leaf(make_chain(key="ecdsa-p521")),
    "ok/rsa 2048, PKCS#8 key": lambda: only_leaf(rsa_chain()),
    "ok/rsa 2048, PKCS#1 key": lambda: only_leaf(rsa_chain(), rsa_chain().traditional_key_pem),
    "ok/PKCS#1 key under the PKCS#8 label": lambda: only_leaf(
        rsa_chain(), rsa_chain().traditional_key_pem.replace("RSA PRIVATE", "PRIVATE")
    ),
    "ok/rsa 3072": lambda: only_leaf(make_chain(key="rsa-3072")),
    "ok/expired": lambda: only_leaf(make_chain(days=-400)),
    "ok/not valid yet": lambda: only_leaf(make_chain(now=NOW + timedelta(days=3000))),
    "ok/wildcard": lambda: only_leaf(make_chain(names=["*.example.com", "example.com"])),
    "ok/addresses": lambda: only_leaf(make_chain(names=["192.0.2.7", "2001:db8::1"])),
    "ok/no names but a common name": lambda: only_leaf(make_chain(names=(), subject="CN=www.example.com")),
    "ok/key in cert_body": lambda: served(EC.chain_pem + EC.key_pem, key=""),
    "ok/key before the chain in cert_body, white space as key": lambda: served(EC.key_pem + EC.chain_pem, key=" \n"),
    "ok/the same file in both fields": lambda: served(EC.chain_pem + EC.key_pem, EC.chain_pem + EC.key_pem),
    "ok/the key twice": lambda: served(EC.chain_pem, EC.key_pem * 2),
    "ok/DH parameters in a combined file": lambda: served(
        EC.chain_pem + EC.key_pem + armour("DH PARAMETERS", b"\x30\x00"), key=""
    ),
    "ok/backend mTLS": lambda: Accepted(
        Input(EC.leaf_pem, EC.key_pem, Side.SERVER_TO_BACKEND_MTLS), chain=(EC.leaf,), key=EC.key_pem
    ),
    "ok/clientCA with one root": lambda: bundle(EC.root),
    "ok/backendCA with several in their order": lambda: bundle(EC.issuers[0], DEEP.root, EC.root, side=Side.BACKEND_CA),
    "ok/clientCA with duplicates": lambda: bundle(EC.issuers[0], EC.root, EC.root),
    "ok/clientCA with text around": lambda: bundle(EC.root, around="Example Root\n============\n"),
    "ok/clientCA that has expired": lambda: bundle(
        make_certificate(key=make_key(), subject="CN=Ended", is_ca=True, days=-5)
    ),
    "ok/clientCA with an Ed25519 key": lambda: bundle(
        make_certificate(key=make_key("ed25519"), subject="CN=Modern Root", is_ca=True)
    ),
    "ok/clientCA with more certificates than a chain has": lambda: bundle(
        *(make_certificate(key=make_key(), subject=f"CN=Root {n}", is_ca=True) for n in range(MOST_SERVED + 8))
    ),
}


@pytest.mark.parametrize("case", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_an_upload_becomes_a_tidy_chain_and_a_pkcs8_key(case: Callable[[], Accepted]) -> None:
    expected = case()
    material = read_upload(expected.upload.body, expected.upload.key, side=expected.upload.side)
    assert material.chain_pem == pem(*expected.chain)
    assert (material.key.reveal() if material.key else None) == expected.key
    assert material.facts == read_facts(expected.chain[0])
