"""What we write for others: PKCS#12 stores, signing requests, the placeholder."""

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from certorbit.errors import BadInput, BadMaterial, Broken
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.material import KeyType, PrivateKeyPEM
from certorbit.pki.csr import make_csr
from certorbit.pki.pfx import make_pfx
from certorbit.pki.private_key import load_own_key, make_key
from certorbit.pki.selfsigned import make_placeholder
from make import NOW, make_chain, pem, write_key
from make import make_key as make_any_key
from programs import require_program

CHAIN = make_chain()
PASSWORDS = pytest.mark.parametrize("password", [None, b"", b"s3cret", "pässwörd €".encode()])


def openssl(*arguments: str, given: bytes = b"") -> str:
    run = subprocess.run(  # the program is the judge here
        [require_program("openssl"), *arguments], input=given, capture_output=True, check=False, timeout=30
    )
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode()


@PASSWORDS
@pytest.mark.parametrize("key", ["ecdsa-p256", "rsa-2048"])
def test_a_store_holds_key_leaf_and_chain(key: str, password: bytes | None) -> None:
    chain = make_chain(key=key)
    store = pkcs12.load_pkcs12(
        make_pfx(chain.chain_pem, key=chain.private_key, name="www", password=password), password or None
    )
    assert store.key is not None
    assert store.key.private_numbers() == chain.key.private_numbers()  # type: ignore[union-attr]
    assert store.cert is not None
    assert (store.cert.certificate, store.cert.friendly_name) == (chain.leaf, b"www")
    assert [extra.certificate for extra in store.additional_certs] == list(chain.issuers[:-1])


@PASSWORDS
def test_a_store_without_a_key_holds_the_certificates(password: bytes | None) -> None:
    made = make_pfx(CHAIN.issuers_pem, key=None, name="clients", password=password)
    store = pkcs12.load_pkcs12(made, password or None)
    assert (store.key, store.cert) == (None, None)
    assert [extra.certificate for extra in store.additional_certs] == list(CHAIN.issuers)
    assert store.additional_certs[0].friendly_name == b"clients"


@pytest.mark.parametrize("password", [b"", b"s3cret"])
def test_openssl_opens_the_store(tmp_path: Path, password: bytes) -> None:
    file = tmp_path / "www.pfx"
    file.write_bytes(make_pfx(CHAIN.chain_pem, key=CHAIN.private_key, name="www", password=password))
    out = openssl("pkcs12", "-in", str(file), "-passin", f"pass:{password.decode()}", "-nodes")
    assert CHAIN.key_pem in out
    assert CHAIN.leaf_pem in out
    assert CHAIN.intermediates_pem in out
    assert "friendlyName: www" in out


def test_a_store_with_a_password_is_encrypted_with_aes_256(tmp_path: Path) -> None:
    file = tmp_path / "www.pfx"
    file.write_bytes(make_pfx(CHAIN.chain_pem, key=CHAIN.private_key, name="www", password=b"x"))
    run = subprocess.run(
        [require_program("openssl"), "pkcs12", "-in", str(file), "-passin", "pass:x", "-info", "-noout"],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert run.stderr.decode().count("PBES2, PBKDF2, AES-256-CBC, Iteration 20000, PRF hmacWithSHA256") == 2
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_pkcs12(file.read_bytes(), b"wrong")


def test_a_password_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(BadInput, match="not UTF-8"):
        make_pfx(CHAIN.chain_pem, key=CHAIN.private_key, name="www", password=b"\xff")


def test_a_chain_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadMaterial, match="no certificate"):
        make_pfx("", key=CHAIN.private_key, name="www", password=None)


@pytest.mark.parametrize("key_type", [KeyType.ECDSA_P256, KeyType.ECDSA_P384, KeyType.RSA_2048])
def test_a_request_has_all_names_in_order_and_openssl_verifies_it(key_type: KeyType, tmp_path: Path) -> None:
    key = make_key(key_type)
    names = ["b.example.com", "*.a.example.com", "192.0.2.7", "2001:db8::1", "bücher.example"]
    der = make_csr(key, normalise_identifiers(names))
    csr = x509.load_der_x509_csr(der)
    san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in san] == [*names[:4], "xn--bcher-kva.example"]
    assert not list(csr.subject)
    assert csr.public_key() == load_own_key(key).public_key()
    file = tmp_path / "csr.der"
    file.write_bytes(der)
    assert "DNS:b.example.com" in openssl("req", "-inform", "DER", "-in", str(file), "-verify", "-noout", "-text")


def test_the_longest_name_fits() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    csr = x509.load_der_x509_csr(make_csr(make_key(KeyType.ECDSA_P256), normalise_identifiers([longest])))
    san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == [longest]


def test_the_placeholder_is_self_signed_for_ten_years_and_for_no_real_name() -> None:
    material = make_placeholder(now=NOW)
    leaf = x509.load_pem_x509_certificate(material.chain_pem.encode())
    leaf.verify_directly_issued_by(leaf)
    assert pem(leaf) == material.chain_pem
    assert (material.facts.subject, material.facts.san) == ("CN=placeholder", ("placeholder.invalid",))
    assert material.facts.not_after - material.facts.not_before == timedelta(days=3650)
    assert (material.facts.key_algorithm, material.facts.is_ca) == ("ecdsa-p256", False)
    assert material.key is not None
    assert load_own_key(material.key).public_key() == leaf.public_key()


@pytest.mark.parametrize("text", ["", "garbage", CHAIN.leaf_pem])
def test_a_stored_key_that_cannot_be_read_is_our_fault_and_shows_nothing(text: str) -> None:
    with pytest.raises(Broken) as error:
        load_own_key(PrivateKeyPEM(text))
    assert error.value.message == "A stored private key can't be read."
    assert error.value.__suppress_context__


def test_a_stored_key_that_cannot_be_served_is_our_fault() -> None:
    with pytest.raises(Broken, match="neither RSA nor ECDSA"):
        load_own_key(PrivateKeyPEM(write_key(make_any_key("ed25519"))))
