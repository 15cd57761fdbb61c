"""What trust costs: revocation lists, verdicts, sealed keys.

- `crl`: a list with 20,000 entries (1 MB): read and indexed, its signature checked, a serial looked up.
- `verdicts`: whole verdicts of certificates by that list (chain read, scope, dates, look-up), one after the other on
  one core, the list from memory as in the service; half of the certificates are revoked.
- `keys`: a private key (PKCS#8 PEM) sealed and opened.

Medians, one core, no network, no database. Writes benchmarks/results/trust.json.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certorbit.keys.envelope import KEY_BYTES, KeyEncryptionKey
from certorbit.model.crl import VerdictState
from certorbit.model.material import KeyType
from certorbit.pki.crl_check import CRLIndex, check_dates, check_signed_by, find_revoked, read_crl
from certorbit.pki.crl_points import read_leaf
from certorbit.pki.pem import write_certificates
from certorbit.pki.private_key import make_key
from certorbit.ports.crl_source import CRLCopy
from certorbit.workflows.revocation_look import judge

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "trust.json"
ENTRIES = 20_000
LEAVES = 50
NOW = datetime(2027, 1, 1, tzinfo=UTC)
URL = "http://crl.bench.test/1.crl"
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bench CA")])


class BenchSource:
    """A `ports.crl_source.CRLSource` that has the list already."""

    def __init__(self, index: CRLIndex) -> None:
        self._copy = CRLCopy(index, "", NOW + timedelta(days=1))

    async def find(self, _url: str, *, issuer: x509.Certificate, issuer_id: str) -> CRLCopy:
        assert issuer.subject == NAME
        assert issuer_id
        return self._copy

    async def find_own(self, _issuer_id: str) -> CRLCopy | None:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="how often each thing is measured")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="revoked certificates on the list")
    arguments = parser.parse_args()
    results = measure(entries=arguments.entries, rounds=arguments.rounds)
    for name, numbers in results.items():
        print(f"{name}: {numbers}")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Written: {RESULTS.relative_to(ROOT)}")


def measure(*, entries: int, rounds: int) -> dict[str, dict[str, float]]:
    authority = make_certificate(NAME, serial=1, is_ca=True)
    serials = [x509.random_serial_number() for _ in range(entries)]
    der = make_list(serials)
    index = read_crl(der)
    if index.size != entries or find_revoked(index, serials[0]) is None or find_revoked(index, 5) is not None:
        raise RuntimeError("The list doesn't say what was written into it.")
    return {
        "crl": {
            "entries": entries,
            "bytes": len(der),
            "read_ms": median_ms(lambda: read_crl(der), rounds=rounds),
            "check_ms": median_ms(lambda: check(index, authority), rounds=rounds),
            # Of 1,000 the milliseconds are the microseconds of one.
            "look_up_us": median_ms(lambda: look_up(index, serials[:1000]), rounds=rounds),
        },
        "verdicts": asyncio.run(time_verdicts(index, serials, authority, rounds=rounds)),
        "keys": time_keys(rounds=rounds),
    }


def check(index: CRLIndex, authority: x509.Certificate) -> None:
    check_dates(index, now=NOW)
    check_signed_by(index, authority)


def look_up(index: CRLIndex, serials: list[int]) -> None:
    for serial in serials:
        find_revoked(index, serial)


async def time_verdicts(
    index: CRLIndex, serials: list[int], authority: x509.Certificate, *, rounds: int
) -> dict[str, float]:
    """Judge certificates from their stored chains. Returns: how many in a second, and with the chain read before."""
    numbers = [*serials[: LEAVES // 2], *(x509.random_serial_number() for _ in range(LEAVES // 2))]
    chains = [
        write_certificates([make_certificate(x509.Name([]), serial=number, is_ca=False), authority])
        for number in numbers
    ]
    leaves = [read_leaf(chain) for chain in chains]
    source = BenchSource(index)
    whole, judged = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        verdicts = [(await judge(read_leaf(chain), source=source, now=NOW))[0] for chain in chains]
        whole.append(time.perf_counter() - began)
        began = time.perf_counter()
        for leaf in leaves:
            await judge(leaf, source=source, now=NOW)
        judged.append(time.perf_counter() - began)
        states = [verdict.state for verdict in verdicts]
        if states != [VerdictState.REVOKED] * (LEAVES // 2) + [VerdictState.GOOD] * (LEAVES // 2):
            raise RuntimeError(f"The verdicts are wrong: {states}")
    return {
        "per_second": round(LEAVES / statistics.median(whole)),
        "per_second_chain_read": round(LEAVES / statistics.median(judged)),
    }


def time_keys(*, rounds: int) -> dict[str, float]:
    keeper = KeyEncryptionKey(os.urandom(KEY_BYTES))
    found: dict[str, float] = {}
    for name, kind in {"ecdsa_p256": KeyType.ECDSA_P256, "rsa_2048": KeyType.RSA_2048}.items():
        secret = make_key(kind).reveal().encode()
        envelope = keeper.seal(secret, context="bench")
        if keeper.open(envelope, context="bench") != secret:
            raise RuntimeError("The envelope gave another key back.")
        found[f"{name}_bytes"] = len(envelope)
        found[f"{name}_seal_us"] = median_us(partial(keeper.seal, secret, context="bench"), rounds=rounds)
        found[f"{name}_open_us"] = median_us(partial(keeper.open, envelope, context="bench"), rounds=rounds)
    return found


def make_certificate(subject: x509.Name, *, serial: int, is_ca: bool) -> x509.Certificate:
    """Return a certificate of the bench's CA; all of them have one key, which no measure depends on."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(NAME)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(URL)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    return builder.sign(KEY, SHA256())


def make_list(serials: list[int]) -> bytes:
    """Return a CRL as public CAs make them: serials of 20 octets, a reason on each entry."""
    revoked = [
        x509.RevokedCertificateBuilder()
        .serial_number(serial)
        .revocation_date(NOW - timedelta(days=1))
        .add_extension(x509.CRLReason(x509.ReasonFlags.superseded), critical=False)
        .build()
        for serial in serials
    ]
    builder = x509.CertificateRevocationListBuilder(issuer_name=NAME, revoked_certificates=revoked)
    builder = builder.last_update(NOW - timedelta(hours=1)).next_update(NOW + timedelta(days=7))
    builder = builder.add_extension(x509.CRLNumber(7), critical=False)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.DER)


def median_ms(call: Callable[[], object], *, rounds: int) -> float:
    return round(1000 * median(call, rounds=rounds), 3)


def median_us(call: Callable[[], object], *, rounds: int) -> float:
    """Return the median of one call among hundreds, in microseconds."""

    def hundred() -> None:
        for _ in range(100):
            call()

    return round(1e4 * median(hundred, rounds=rounds), 1)


def median(call: Callable[[], object], *, rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
