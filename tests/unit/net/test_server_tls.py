"""The service's TLS as a handshake shows it: OpenSSL on both sides, in memory."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial
from certorbit.model.material import PrivateKeyPEM
from certorbit.net.server_tls import ClientTrust, make_server_context
from make import Chain, make_certificate, make_chain, make_key, pem, write_key
from unit.net import client_handshake

NOW = datetime.now(UTC)
SERVER = make_chain(names=["api.example.test"], now=NOW)
ISSUER_KEY = make_key("ecdsa-p256", 40)
ISSUER = make_certificate(key=ISSUER_KEY, subject="CN=Clients", is_ca=True, days=30, now=NOW)
OTHER_KEY = make_key("ecdsa-p256", 41)
OTHER = make_certificate(key=OTHER_KEY, subject="CN=Others", is_ca=True, days=30, now=NOW)
CLIENT_KEY = make_key("ecdsa-p256", 42)


def client(*, issuer: x509.Certificate = ISSUER, key: object = ISSUER_KEY, days: float = 5) -> x509.Certificate:
    return make_certificate(
        key=CLIENT_KEY, subject="CN=edge", names=["edge"], issuer=issuer, issuer_key=key, days=days, now=NOW
    )


def crl(
    *revoked: x509.Certificate, age: float = 0.0, issuer: x509.Certificate = ISSUER, key: object = ISSUER_KEY
) -> str:
    """Return the issuer's CRL. age: days since its nextUpdate, less one."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(NOW - timedelta(days=age, hours=1))
        .next_update(NOW - timedelta(days=age - 1))
    )
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(NOW).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()  # type: ignore[arg-type]


def trust(*certificates: x509.Certificate, crls: str = "", required: bool = True) -> ClientTrust:
    return ClientTrust(ca_pem=pem(*certificates) + crls, has_crls=bool(crls), is_required=required)


def serving(clients: ClientTrust | None, chain: Chain = SERVER) -> ssl.SSLContext:
    return make_server_context(chain.chain_pem, chain.private_key, clients=clients)


def get_in(server: ssl.SSLContext, shown: x509.Certificate | None, folder: Path, *, highest: ssl.TLSVersion) -> bool:
    return client_handshake.get_in(server, [shown] if shown else [], CLIENT_KEY, folder, highest=highest)


GOOD, EXPIRED, STRANGE = client(), client(days=-1), client(issuer=OTHER, key=OTHER_KEY)
WHO = {"good": GOOD, "expired": EXPIRED, "strange": STRANGE, "none": None}
CASES = [
    ("off", None, {"good", "expired", "strange", "none"}),
    ("optional", trust(ISSUER, required=False), {"good", "none"}),
    ("required", trust(ISSUER), {"good"}),
    ("required of two CAs", trust(ISSUER, OTHER), {"good", "strange"}),
    ("required of nobody", ClientTrust(ca_pem="", has_crls=False, is_required=True), set()),
    ("with a CRL", trust(ISSUER, crls=crl(EXPIRED)), {"good"}),
    ("revoked", trust(ISSUER, crls=crl(GOOD)), set()),
    ("with a stale CRL", trust(ISSUER, crls=crl(age=3)), set()),
    ("with a CRL of another issuer alone", trust(ISSUER, OTHER, crls=crl(issuer=OTHER, key=OTHER_KEY)), {"strange"}),
    ("with a forged CRL", trust(ISSUER, crls=crl(key=OTHER_KEY)), set()),
]


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize(("clients", "let_in"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_who_gets_in(clients: ClientTrust | None, let_in: set[str], highest: ssl.TLSVersion, tmp_path: Path) -> None:
    server = serving(clients)
    seen = {name for name, shown in WHO.items() if get_in(server, shown, tmp_path, highest=highest)}
    assert seen == let_in


def test_an_issuing_ca_is_enough_without_its_root(tmp_path: Path) -> None:
    chain = make_chain(names=["edge"], now=NOW)
    issued = make_certificate(
        key=CLIENT_KEY, subject="CN=edge", issuer=chain.issuers[0], issuer_key=chain.issuer_keys[0], now=NOW
    )
    server = serving(trust(chain.issuers[0]))
    assert get_in(server, issued, tmp_path, highest=ssl.TLSVersion.TLSv1_3)
    assert not get_in(server, GOOD, tmp_path, highest=ssl.TLSVersion.TLSv1_3)


def test_a_server_certificate_is_no_clients(tmp_path: Path) -> None:
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    shown = make_certificate(
        key=CLIENT_KEY, subject="CN=edge", issuer=ISSUER, issuer_key=ISSUER_KEY, now=NOW, extensions=[usage]
    )
    assert not get_in(serving(trust(ISSUER)), shown, tmp_path, highest=ssl.TLSVersion.TLSv1_3)


def test_no_session_is_resumed_in_tls_1_3() -> None:
    context = serving(None)
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize(
    ("chain_pem", "key", "says"),
    [
        (SERVER.chain_pem, write_key(OTHER_KEY), "key values mismatch"),
        (SERVER.chain_pem, write_key(SERVER.key, password=b"secret"), "can't serve with this certificate, key"),
        ("", SERVER.key_pem, "can't serve with this certificate, key"),
        (
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            SERVER.key_pem,
            "can't serve with this certificate, key",
        ),
    ],
    ids=["another key", "encrypted key", "no certificate", "damaged certificate"],
)
def test_what_does_not_fit_is_refused_without_a_word_of_the_key(chain_pem: str, key: str, says: str) -> None:
    with pytest.raises(BadMaterial, match=says) as caught:
        make_server_context(chain_pem, PrivateKeyPEM(key), clients=None)
    assert not [line for line in key.splitlines() if line in caught.value.message]
