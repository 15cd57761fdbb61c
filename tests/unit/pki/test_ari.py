"""CertIDs: RFC 9773's own example, serial numbers of all shapes, certificates that have none."""

from base64 import encodebytes, urlsafe_b64decode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from certorbit.errors import BadMaterial
from certorbit.pki.ari import make_cert_id
from make import make_certificate, make_chain, make_key, name, pem

KEY_IDENTIFIER = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")  # RFC 9773 §4.1


def certificate_pem(*, serial: int, key_identifier: bytes | None = KEY_IDENTIFIER) -> str:
    extension = x509.AuthorityKeyIdentifier(key_identifier, None, None)
    return pem(make_certificate(key=make_key(), names=["a.example"], serial=serial, extensions=[extension]))


def as_pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{encodebytes(der).decode()}-----END CERTIFICATE-----\n"


def test_the_example_of_rfc_9773_has_its_cert_id() -> None:
    assert make_cert_id(certificate_pem(serial=0x87654321)) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


@pytest.mark.parametrize(
    ("serial", "encoded"),
    [
        pytest.param(0x01, "AQ", id="ok/one octet"),
        pytest.param(0x7F, "fw", id="ok/seven bits need no zero octet"),
        pytest.param(0x80, "AIA", id="ok/eight bits need a zero octet"),
        pytest.param(0x0100, "AQA", id="ok/nine bits"),
        pytest.param(0x8000, "AIAA", id="ok/sixteen bits"),
    ],
)
def test_a_serial_number_is_written_as_der_writes_it(serial: int, encoded: str) -> None:
    assert make_cert_id(certificate_pem(serial=serial)) == f"aYhba4dGQEHhs3uEe6CuLN4ByNQ.{encoded}"


@settings(max_examples=60, deadline=None)
@given(serial=st.integers(min_value=1, max_value=2**159 - 1), key_identifier=st.binary(min_size=1, max_size=32))
def test_a_cert_id_can_be_taken_apart_again(serial: int, key_identifier: bytes) -> None:
    cert_id = make_cert_id(certificate_pem(serial=serial, key_identifier=key_identifier))
    assert cert_id is not None
    assert "=" not in cert_id
    first, second = (urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in cert_id.split("."))
    assert first == key_identifier
    assert int.from_bytes(second, "big", signed=True) == serial, "positive for whoever reads DER"
    assert len(second) == 1 or second[0] != 0 or second[1] & 0x80, "the shortest form"


def test_the_leaf_counts_not_its_issuers() -> None:
    leaf = certificate_pem(serial=0x87654321)
    assert make_cert_id(leaf + make_chain().chain_pem) == make_cert_id(leaf)


def test_without_a_key_identifier_there_is_no_cert_id() -> None:
    assert make_cert_id(make_chain().chain_pem) is None, "no AKI at all"
    by_serial = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(name("CN=Old CA"))], 7)
    assert make_cert_id(pem(make_certificate(key=make_key(), extensions=[by_serial]))) is None


@pytest.mark.parametrize("text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(BadMaterial, match="chain"):
        make_cert_id(text)


def test_damaged_extensions_are_refused() -> None:
    whole = certificate_pem(serial=5)
    der = bytearray(x509.load_pem_x509_certificate(whole.encode()).public_bytes(Encoding.DER))
    place = bytes(der).index(KEY_IDENTIFIER)
    der[place - 1] = 0x7F  # the length of the key identifier: longer than the extension
    with pytest.raises(BadMaterial, match="extensions"):
        make_cert_id(as_pem(bytes(der)))


@pytest.mark.parametrize("octet", [0x00, 0xFF], ids=["zero", "minus one"])
def test_a_serial_number_that_is_not_positive_gives_no_cert_id(octet: int) -> None:
    whole = x509.load_pem_x509_certificate(certificate_pem(serial=5).encode()).public_bytes(Encoding.DER)
    der = whole.replace(bytes.fromhex("a003020102 020105"), bytes.fromhex("a003020102 0201") + bytes([octet]), 1)
    assert der != whole
    with pytest.warns(Warning, match="serial number"):
        assert make_cert_id(as_pem(der)) is None
