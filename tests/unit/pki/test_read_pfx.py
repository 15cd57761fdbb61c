"""Reading PKCS#12 stores: OpenSSL's in all its forms, our own, and hostile ones."""

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certorbit.errors import BadMaterial
from certorbit.model.entry import Side
from certorbit.model.material import PrivateKeyPEM
from certorbit.pki.pem import read_certificates
from certorbit.pki.pfx import MOST_BYTES, make_pfx, read_pfx
from certorbit.pki.pfx_child import open_store
from certorbit.pki.upload import read_upload
from make import make_certificate, make_chain, make_key, pem, write_key
from programs import require_program
from unit.pki import pfx_stores as parts

CHAIN = make_chain(depth=4)
RSA = make_chain(key="rsa-2048", depth=4)
OTHER = make_chain(names=["other.example.com"], key_index=3)
WITHOUT_ENCRYPTION = ("-keypbe", "NONE", "-certpbe", "NONE", "-nomac")


@cache
def export(certificates: str, key: str, password: str, *options: str) -> bytes:
    """Return a store that OpenSSL made. certificates, key: PEM; key "": certificates only."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "c.pem").write_text(certificates)
        (Path(folder) / "k.pem").write_text(key)
        with_key = ("-inkey", "k.pem") if key else ("-nokeys",)
        command = ["pkcs12", "-export", "-in", "c.pem", *with_key, "-passout", f"pass:{password}", *options]
        run = subprocess.run(
            [require_program("openssl"), *command], cwd=folder, capture_output=True, check=False, timeout=30
        )
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


@pytest.mark.parametrize("chain", [CHAIN, RSA], ids=["ecdsa", "rsa"])
@pytest.mark.parametrize(
    ("password", "options"),
    [
        pytest.param("s3cret", (), id="aes-256"),
        pytest.param("s3cret", ("-legacy",), id="rc2-and-3des"),
        pytest.param("s3cret", ("-descert", "-legacy"), id="3des"),
        pytest.param("s3cret", ("-macalg", "sha512", "-iter", "100000"), id="sha-512-with-many-iterations"),
        pytest.param("s3cret", ("-nomac",), id="no-mac"),
        pytest.param("pässwörd €", (), id="password-in-utf-8"),
        pytest.param("", (), id="empty-password"),
        pytest.param("", WITHOUT_ENCRYPTION, id="no-password"),
    ],
)
def test_openssl_s_stores_give_key_and_chain(chain: object, password: str, options: tuple[str, ...]) -> None:
    store = export(chain.leaf_pem + chain.intermediates_pem, chain.key_pem, password, *options)  # type: ignore[attr-defined]
    key, chain_pem = read_pfx(store, password.encode())
    assert key == chain.private_key  # type: ignore[attr-defined]
    assert chain_pem == chain.chain_pem  # type: ignore[attr-defined]
    if not password:
        assert read_pfx(store, None) == (key, chain_pem)


def test_what_we_write_we_read_and_what_is_read_can_be_uploaded() -> None:
    key, chain_pem = read_pfx(make_pfx(RSA.chain_pem, key=RSA.private_key, name="www", password=b"x"), b"x")
    assert (key, chain_pem) == (RSA.private_key, RSA.chain_pem)
    assert key is not None
    assert read_upload(chain_pem, key.reveal(), side=Side.SERVER).chain_pem == RSA.chain_pem


def test_the_chain_is_put_in_order_and_what_is_no_part_of_it_comes_last() -> None:
    mixed = pem(OTHER.leaf, CHAIN.issuers[1], CHAIN.leaf, CHAIN.issuers[0])
    _, chain_pem = read_pfx(export(mixed, CHAIN.key_pem, "x"), b"x")
    assert read_certificates(chain_pem) == (CHAIN.leaf, CHAIN.issuers[0], CHAIN.issuers[1], OTHER.leaf)


def test_a_store_of_certificates_only_has_no_key() -> None:
    assert read_pfx(export(CHAIN.chain_pem, "", "x"), b"x") == (None, CHAIN.chain_pem)


def test_a_store_with_a_key_only_has_no_certificates() -> None:
    assert read_pfx(parts.store(parts.plain(parts.key_bag(CHAIN.key))), None) == (CHAIN.private_key, "")


def test_of_two_keys_one_comes_with_the_certificate_that_fits() -> None:
    bags = [parts.key_bag(CHAIN.key), parts.key_bag(OTHER.key)]
    bags += [parts.certificate_bag(leaf) for leaf in (OTHER.leaf, CHAIN.leaf)]
    key, chain_pem = read_pfx(parts.store(parts.plain(*bags)), None)
    assert key == CHAIN.private_key
    assert read_certificates(chain_pem) == (CHAIN.leaf, OTHER.leaf)


@pytest.mark.parametrize("kind", ["rsa-1024", "ed25519", "ecdsa-secp256k1", "dsa-2048"])
def test_keys_that_no_listener_takes_are_extracted_all_the_same(kind: str) -> None:
    key = make_key(kind)
    certificate = make_certificate(key=key, subject="CN=old", names=["old.example.com"])
    bags = [parts.key_bag(key), parts.certificate_bag(certificate)]
    assert read_pfx(parts.store(parts.plain(*bags)), None) == (PrivateKeyPEM(write_key(key)), pem(certificate))


@pytest.mark.parametrize("password", [b"wrong", b"", None, b"\xff\xfe", b"nul\0nul", b"x" * 5000])
@pytest.mark.parametrize("options", [(), ("-legacy",), ("-nomac",)], ids=["aes", "legacy", "no-mac"])
def test_a_wrong_password_is_said_to_be_wrong(password: bytes | None, options: tuple[str, ...]) -> None:
    with pytest.raises(BadMaterial, match=r"^password: it does not open the PKCS#12 store") as refused:
        read_pfx(export(CHAIN.chain_pem, CHAIN.key_pem, "s3cret", *options), password)
    assert refused.value.subject == "password"


@pytest.mark.parametrize(
    ("store", "message"),
    [
        pytest.param(b"", "this is not a PKCS#12 store", id="empty"),
        pytest.param(b"\x89PNG\r\n", "this is not a PKCS#12 store", id="picture"),
        pytest.param(CHAIN.chain_pem.encode(), "It is PEM text, which needs no extraction", id="pem"),
        pytest.param(b"\x30\x03\x02\x01\x01", "this is not a PKCS#12 store", id="another-version"),
        pytest.param(b"\x30\x82\xff\xff\x02\x01\x03" + b"x" * MOST_BYTES, "more than 1024 KiB", id="too-big"),
        pytest.param(parts.store(), "neither a key nor a certificate", id="nothing-in-it"),
    ],
)
def test_what_is_no_store_is_refused(store: bytes, message: str) -> None:
    with pytest.raises(BadMaterial, match=message) as refused:
        read_pfx(store, b"x")
    assert refused.value.subject == "fileName"


@pytest.mark.parametrize("length", [7, 20, 100, -1])
def test_a_store_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(BadMaterial, match="or the store is damaged"):
        read_pfx(export(CHAIN.chain_pem, CHAIN.key_pem, "x")[:length], b"x")


MANY = 2**31 - 1


@pytest.mark.parametrize(
    "store",
    [
        pytest.param(parts.store(parts.plain(parts.shrouded_key_bag(CHAIN.key, iterations=MANY))), id="key"),
        pytest.param(parts.store(parts.encrypted(parts.key_bag(CHAIN.key), iterations=MANY)), id="content"),
        pytest.param(
            parts.store(parts.encrypted(parts.shrouded_key_bag(CHAIN.key, iterations=MANY))), id="hidden-in-content"
        ),
    ],
)
def test_a_store_that_wants_its_password_hashed_without_end_is_given_up(store: bytes) -> None:
    with pytest.raises(BadMaterial, match="takes too much time or memory"):
        read_pfx(store, parts.PASSWORD, cpu_seconds=1)


def test_the_same_store_with_decent_iterations_opens() -> None:
    hidden = parts.store(parts.encrypted(parts.shrouded_key_bag(CHAIN.key, iterations=2048)))
    assert read_pfx(hidden, parts.PASSWORD) == (CHAIN.private_key, "")


def test_no_message_shows_password_or_key() -> None:
    for password in (b"wrong-Passw0rd", b"wrong-Passw0rd" * 400):
        with pytest.raises(BadMaterial) as refused:
            read_pfx(export(CHAIN.chain_pem, CHAIN.key_pem, "s3cret"), password)
        assert "Passw0rd" not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__!r}"


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_whatever_was_done_to_a_store_it_opens_or_is_refused(data: st.DataObject) -> None:
    """In this process: a store without encryption and MAC, in which no change can make a number of iterations."""
    store = bytearray(export(CHAIN.chain_pem, CHAIN.key_pem, "", *WITHOUT_ENCRYPTION))
    for _ in range(data.draw(st.integers(1, 4))):
        store[data.draw(st.integers(0, len(store) - 1))] = data.draw(st.integers(0, 255))
    try:
        key, chain_pem = open_store(bytes(store), None)
    except BadMaterial:
        return
    assert key or chain_pem


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_so_it_is_with_encrypted_ones(data: st.DataObject) -> None:
    store = bytearray(export(CHAIN.chain_pem, CHAIN.key_pem, "x", "-nomac"))
    store[data.draw(st.integers(0, len(store) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        key, chain_pem = read_pfx(bytes(store), b"x", cpu_seconds=1)
    except BadMaterial:
        return
    assert key or chain_pem
