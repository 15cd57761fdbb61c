"""CA bundles with revocation lists, made to cost: few names, keys and key identifiers for many CAs and long lists."""

from collections.abc import Sequence
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import strategies as st

from fuzz.mutating import Tape, damage_text
from make import distribution_points, make_certificate, make_crl, make_key, pem

MOST_BODY_BYTES = 1024 * 1024  # of a request (setting `max_body_bytes`)
_KINDS = ("ecdsa-p521", "ecdsa-p256")
_PER_KIND = 20
_KEYS = [make_key(kind, index=3000 + number) for kind in _KINDS for number in range(_PER_KIND)]
_IDS: Sequence[bytes | None] = (None, b"\x01" * 20, b"\x02" * 20)
_POINTS = distribution_points([f"http://{number}.example.test/" for number in range(8)])
_tapes = st.binary(min_size=40, max_size=400)


# Names, key identifiers and places of lists: the fewer there are, the more a list may be of any of the CAs.
_SORTS = [
    (name, key_id, has_points) for name in ("CN=Same", "CN=Other") for key_id in _IDS for has_points in (False, True)
]


@cache
def _authority(number: int, sort: int) -> x509.Certificate:
    name, key_id, has_points = _SORTS[sort]
    extensions: list[x509.ExtensionType] = [] if key_id is None else [x509.SubjectKeyIdentifier(key_id)]
    if has_points:
        extensions.append(_POINTS)
    return make_certificate(key=_KEYS[number], subject=name, is_ca=True, extensions=extensions)


@cache
def _crl(number: int, sort: int, entries: int) -> str:
    der = make_crl(
        _authority(number, sort), _KEYS[number], authority_key_id=_SORTS[sort][1], revoked=range(1, entries + 1)
    )
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()


def _bundle(cas: Sequence[tuple[int, int]], lists: Sequence[str]) -> tuple[str, Sequence[str]]:
    return pem(*(_authority(number, sort) for number, sort in cas)), lists


def hostile_bundles() -> st.SearchStrategy[tuple[str, Sequence[str]]]:
    """Give a bundle's text and its lists: each CA's, one CA's many times, long ones, some damaged, in any order."""

    def make(content: bytes) -> tuple[str, Sequence[str]]:
        tape = Tape(content)
        sorts = [tape.number(len(_SORTS)) for _ in range(1 + tape.number(3))]
        count, start = 1 + tape.number(len(_KEYS)), tape.pick([0, 10])
        cas = [((start + place) % len(_KEYS), sorts[place % len(sorts)]) for place in range(count)]
        signers = cas[::-1] if tape.is_one_in(2) else cas
        signers = signers[: 1 + tape.number(count)] if tape.is_one_in(3) else signers
        entries = tape.pick([0, 1, 3000]) if len(signers) < 3 else tape.number(2)
        lists = [_crl(number, sort, entries) for number, sort in signers] * tape.pick([1, 1, 2, 20])
        for _ in range(tape.number(3)):
            place = tape.number(len(lists))
            lists[place] = damage_text(tape, lists[place])
        return _bundle(cas, _cut(lists))

    return _tapes.map(make)


def _cut(lists: Sequence[str]) -> Sequence[str]:
    """Return as many of the lists as a request has room for."""
    kept, room = [], MOST_BODY_BYTES
    for text in lists:
        room -= len(text)
        if room < 0:
            break
        kept.append(text)
    return kept


# What is taken as it is.
BUNDLES = [
    _bundle([(0, 0)], [_crl(0, 0, 5)]),
    _bundle([(0, 2), (1, 2), (2, 6)], [_crl(0, 2, 0), _crl(1, 2, 3), _crl(2, 6, 1)]),
]
