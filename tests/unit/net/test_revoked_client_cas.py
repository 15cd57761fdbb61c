"""Clients of CAs that are revoked themselves: what is left of the bundle, and who then gets in, by real handshakes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial
from certorbit.net.server_tls import ClientTrust, make_server_context
from certorbit.pki.client_trust import find_usable_trust
from make import PrivateKey, make_certificate, make_chain, make_crl, make_key, pem
from unit.net.client_handshake import get_in

NOW = datetime.now(UTC)
SERVER = make_chain(names=["api.example.test"], now=NOW)
ROOT_KEY, OTHER_KEY, SUB_KEY, LOW_KEY, CLIENT_KEY = (make_key(index=840 + number) for number in range(5))


def make_ca(
    subject: str, key: PrivateKey, issuer: x509.Certificate | None = None, issuer_key: PrivateKey | None = None
) -> x509.Certificate:
    return make_certificate(
        key=key, subject=subject, is_ca=True, issuer=issuer, issuer_key=issuer_key, days=30, now=NOW
    )


ROOT, OTHER = make_ca("CN=Root", ROOT_KEY), make_ca("CN=Other", OTHER_KEY)
SUB = make_ca("CN=Sub", SUB_KEY, ROOT, ROOT_KEY)
CROSS = make_ca("CN=Sub", SUB_KEY, OTHER, OTHER_KEY)  # the same CA, by another root
LOW = make_ca("CN=Low", LOW_KEY, SUB, SUB_KEY)


def make_client(issuer: x509.Certificate, key: PrivateKey) -> x509.Certificate:
    return make_certificate(key=CLIENT_KEY, subject="CN=edge", issuer=issuer, issuer_key=key, days=5, now=NOW)


OF_ROOT, OF_SUB, OF_LOW = make_client(ROOT, ROOT_KEY), make_client(SUB, SUB_KEY), make_client(LOW, LOW_KEY)
SHOWN = {
    "of root": [OF_ROOT],
    "of sub": [OF_SUB, SUB],
    "of sub, crossed": [OF_SUB, CROSS],
    "of sub, alone": [OF_SUB],
    "of low": [OF_LOW, LOW, SUB],
}
ALL = {"of root", "of sub", "of sub, crossed", "of sub, alone", "of low"}
SUBS = {"of sub", "of sub, crossed", "of sub, alone"}


def crl(
    issuer: x509.Certificate, key: PrivateKey, *revoked: x509.Certificate, days: float = 5, signed_by: object = None
) -> str:
    """Return a list as PEM. days: until its end; negative: it is over."""
    der = make_crl(
        issuer,
        signed_by or key,
        revoked=[certificate.serial_number for certificate in revoked],
        start=NOW - timedelta(days=9),
        end=NOW + timedelta(days=days),
    )
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()


SUB_LIST, LOW_LIST, OTHER_LIST = crl(SUB, SUB_KEY), crl(LOW, LOW_KEY), crl(OTHER, OTHER_KEY)
ROOT_LIST, REVOKING, OLD_REVOKING = (
    crl(ROOT, ROOT_KEY),
    crl(ROOT, ROOT_KEY, SUB),
    crl(ROOT, ROOT_KEY, SUB, days=-1),
)
LISTS = [SUB_LIST, LOW_LIST]
WHOLE = [ROOT, SUB, LOW]
CASES = {
    "nothing revoked": (WHOLE, [ROOT_LIST, *LISTS], ALL),
    "no lists at all": (WHOLE, [], ALL),
    "revoked": (WHOLE, [REVOKING, *LISTS], {"of root"}),
    "revoked, and the bundle has roots alone": ([ROOT], [REVOKING, *LISTS], {"of root"}),
    "not revoked, and the bundle has roots alone": ([ROOT], [ROOT_LIST, *LISTS], {"of root", "of sub", "of low"}),
    "revoked by a list that is over": (WHOLE, [OLD_REVOKING, *LISTS], set()),
    "the root's list is over": (WHOLE, [crl(ROOT, ROOT_KEY, days=-1), *LISTS], set()),
    "the root has no list": (WHOLE, LISTS, SUBS | {"of low"}),
    "an intermediate alone": ([SUB], [SUB_LIST], SUBS),
    "an intermediate alone, and its client revoked": ([SUB], [crl(SUB, SUB_KEY, OF_SUB)], set()),
    "revoked, but trusted by another certificate, and one below it revoked, too": (
        [*WHOLE, CROSS],
        [REVOKING, crl(SUB, SUB_KEY, LOW), LOW_LIST],
        {"of root", *SUBS},
    ),
    "revoked beside a root without a list": ([*WHOLE, OTHER], [REVOKING, *LISTS], {"of root"}),
    "cross-signed, and revoked by one of both": (
        [*WHOLE, OTHER, CROSS],
        [REVOKING, OTHER_LIST, *LISTS],
        ALL,
    ),
    "cross-signed, and revoked by both": (
        [*WHOLE, OTHER, CROSS],
        [REVOKING, crl(OTHER, OTHER_KEY, CROSS), *LISTS],
        {"of root"},
    ),
    "revoked by a forged list": ([SUB, ROOT], [crl(ROOT, ROOT_KEY, SUB, signed_by=OTHER_KEY), SUB_LIST], SUBS),
    "revoked by another CA of its issuer's name": (
        [ROOT, SUB, make_ca("CN=Root", OTHER_KEY)],
        [ROOT_LIST, SUB_LIST, crl(make_ca("CN=Root", OTHER_KEY), OTHER_KEY, SUB)],
        {"of root", *SUBS},
    ),
}


def who_gets_in(cas: Sequence[x509.Certificate], lists: Sequence[str], folder: Path) -> set[str]:
    usable = find_usable_trust(pem(*cas) + "".join(lists))
    trust = ClientTrust(
        ca_pem=usable.pem, has_crls=usable.has_lists, has_whole_paths=usable.has_whole_paths, is_required=True
    )
    server = make_server_context(SERVER.chain_pem, SERVER.private_key, clients=trust)
    return {name for name, shown in SHOWN.items() if get_in(server, shown, CLIENT_KEY, folder)}


@pytest.mark.parametrize(("cas", "lists", "let_in"), CASES.values(), ids=CASES)
def test_who_gets_in(cas: Sequence[x509.Certificate], lists: Sequence[str], let_in: set[str], tmp_path: Path) -> None:
    assert who_gets_in(cas, lists, tmp_path) == let_in


@pytest.mark.parametrize("turn", [1, -1])
def test_the_order_of_a_bundle_changes_nothing(turn: int, tmp_path: Path) -> None:
    cas, lists, let_in = CASES["cross-signed, and revoked by one of both"]
    assert who_gets_in(cas[::turn], lists[::turn], tmp_path) == let_in


def test_who_is_left_out_is_named() -> None:
    usable = find_usable_trust(pem(*WHOLE) + REVOKING + SUB_LIST)
    assert usable.left_out == ("CN=Sub", "CN=Low")
    assert usable.pem.count("BEGIN CERTIFICATE") == 1


def test_a_bundle_without_lists_stays_as_it_is_whatever_it_is() -> None:
    assert find_usable_trust("anything").pem == "anything"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ROOT_LIST + "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "can't be read"),
        ("-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n", "can't be read"),
        (ROOT_LIST + pem(ROOT).replace("CERTIFICATE", "TRUSTED CERTIFICATE"), "OpenSSL's own form"),
    ],
    ids=["certificate", "list", "trusted"],
)
def test_what_can_not_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadMaterial, match=says):
        find_usable_trust(text)
