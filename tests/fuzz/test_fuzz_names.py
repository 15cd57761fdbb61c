"""Names in certificates and in requests: whatever stands there can be shown, logged and stored, or it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certorbit.errors import BadMaterial
from certorbit.model.identifiers import normalise_identifiers
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts
from fuzz.corner_cases import COMMON_NAME, EXTENSIONS, SAN_OID, SUBJECT, build, extension
from fuzz.der_tree import Node
from fuzz.holding import Secrets, bounded, hold
from fuzz.mutating import CONTENTS, ODD_TEXTS, damaged_text
from unit.pki.pfx_stores import oid, sequence, tlv

pytestmark = pytest.mark.filterwarnings("ignore")  # cryptography's, about names of bad lengths
NOTHING = Secrets()
OIDS = [COMMON_NAME, *map(oid, ("2.5.4.6", "2.5.4.10", "2.5.4.45", "1.2.840.113549.1.9.1", "1.3.6.1.4.1.311.60.2.1.3"))]
STRINGS = [0x03, 0x04, 0x0C, 0x12, 0x13, 0x14, 0x16, 0x1A, 0x1B, 0x1C, 0x1E]
texts = st.text(max_size=20) | st.sampled_from(ODD_TEXTS)
contents = (
    st.sampled_from(CONTENTS)
    | st.binary(max_size=20)
    | texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | texts.map(lambda text: text.encode("utf-16-be", "surrogatepass"))
)
attributes = st.tuples(st.sampled_from(OIDS), st.sampled_from(STRINGS), contents).map(
    lambda parts: sequence(parts[0], tlv(parts[1], parts[2]))
)
directory_names = st.lists(st.lists(attributes, max_size=3).map(lambda parts: tlv(0x31, *parts)), max_size=5).map(
    lambda parts: sequence(*parts)
)
# [0] to [8] of RFC 5280 §4.2.1.6: mail 1, DNS 2, directory 4, URI 6, address 7, registered id 8.
general_names = st.one_of(
    st.tuples(st.sampled_from([0x81, 0x82, 0x86, 0x87, 0x88]), contents).map(lambda parts: tlv(*parts)),
    directory_names.map(lambda name: tlv(0xA4, name)),
    st.tuples(st.sampled_from([0xA0, 0xA3, 0xA5, 0x84]), contents).map(lambda parts: tlv(*parts)),
)
DOMAINS = ["www.example.com", "*.example.com", "bücher.example", "xn--bcher-kva.example", "192.0.2.1", "2001:db8::1"]


@given(subject=directory_names, san=st.lists(general_names, max_size=6))
@bounded()
def test_any_name_in_a_certificate_is_shown_plainly_or_refused(subject: bytes, san: list[bytes]) -> None:
    def change(parts: list[Node]) -> None:
        parts[SUBJECT].raw = subject
        parts[EXTENSIONS].raw = tlv(0xA3, sequence(extension(SAN_OID, sequence(*san))))

    body = build(change)
    facts = hold(lambda: read_facts(read_certificates(body)[0]), secrets=NOTHING)
    if facts is not None:
        for text in (facts.subject, facts.issuer, *facts.san, *facts.cdp):
            assert text.isprintable(), text
            text.encode()  # no half of a pair, which no database takes


@given(names=st.lists(texts | damaged_text(DOMAINS), max_size=6))
@bounded()
def test_any_name_that_is_asked_for_is_normalised_or_refused(names: list[str]) -> None:
    found = hold(lambda: normalise_identifiers(names), secrets=NOTHING)
    for identifier in found or ():
        assert identifier.value.isascii()
        assert identifier.value.isprintable()
        assert identifier.value == identifier.value.lower()
        assert len(identifier.value) <= 253
        assert normalise_identifiers([identifier.value]) == (identifier,)


def test_the_names_that_are_damaged_are_taken_undamaged() -> None:
    assert len(normalise_identifiers(DOMAINS)) == len(set(DOMAINS)) - 1
    with pytest.raises(BadMaterial):
        read_certificates(build(lambda parts: setattr(parts[SUBJECT], "raw", b"\x05\x00")))
