"""The corner cases of X.509 that are publicly known: taken with facts that can be shown, or refused with a message."""

import re

import pytest

from certorbit.errors import BadMaterial
from certorbit.model.entry import Side
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts
from certorbit.pki.upload import read_upload
from fuzz.corner_cases import CHAIN, KEY_PEM, all_cases
from fuzz.holding import Secrets, hold
from fuzz.mutating import read_pem

# cryptography warns about what it reads all the same, such as serial numbers of zero and less.
pytestmark = pytest.mark.filterwarnings("ignore")
CASES = dict(all_cases())
LEAF = read_facts(CHAIN.leaf)
SECRETS = Secrets([read_pem(KEY_PEM)])


@pytest.mark.parametrize("name", CASES)
def test_each_corner_case_is_taken_or_refused_as_said(name: str) -> None:
    case = CASES[name]
    body, key = case.make()
    material = hold(lambda: read_upload(body, key, side=case.side), secrets=SECRETS)
    assert (material is None) == bool(case.refusal)
    if material is None:
        with pytest.raises(BadMaterial, match=re.escape(case.refusal)):
            read_upload(body, key, side=case.side)
        return
    facts = material.facts
    assert facts.san == (LEAF.san if case.san is None else case.san)
    for text in (facts.subject, facts.issuer, facts.serial, *facts.san):
        assert text.isprintable(), text
    assert len(read_certificates(material.chain_pem)) >= 1


def test_a_chain_that_is_a_loop_is_followed_once() -> None:
    body, key = CASES["a chain that is a loop"].make()
    assert len(read_certificates(read_upload(body, key, side=Side.SERVER).chain_pem)) == 3


def test_of_two_leaves_the_keys_is_taken() -> None:
    body, key = CASES["two leaves"].make()
    assert read_upload(body, key, side=Side.SERVER).facts == LEAF


@pytest.mark.parametrize("name", CASES)
def test_every_case_names_its_source(name: str) -> None:
    assert re.search(r"RFC \d|CVE-\d|PKITS|x509-limbo|X\.\d|SEC 1|BR \d|CWE|contract\.md", CASES[name].source)
