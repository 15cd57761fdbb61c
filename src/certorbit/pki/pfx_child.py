"""Opens somebody's PKCS#12 store in a process of its own: `python -m certorbit.pki.pfx_child`, started by `pki.pfx`.

A store says itself how often its password is to be hashed, up to 2^31 times, and it may say so again inside what is
encrypted, where nobody sees it beforehand. The library holds the interpreter's lock meanwhile. So the work is done
here, where the kernel bounds time and memory, and a bug in native code meets none of the service's secrets.

In: `{"store": base64, "password": base64 or null, "cpu_seconds": n}`. Out: `{"key": PEM or null, "chain": PEM}`, or
`{"refused": message, "subject": field}`.
"""

import base64
import json
import resource
import sys
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from certorbit.errors import BadMaterial
from certorbit.pki.chain import order_chain, pick_leaf
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.pem import write_certificates
from certorbit.pki.public_key import find_public_key, hash_public_key

_MEMORY_BYTES = 1 << 30  # of address space; a store of 1 MiB takes a few


def main() -> None:
    request = json.load(sys.stdin)
    _limit_resources(request["cpu_seconds"])
    password = request["password"]
    try:
        key, chain = open_store(
            base64.b64decode(request["store"]), None if password is None else base64.b64decode(password)
        )
    except BadMaterial as error:
        json.dump({"refused": error.message, "subject": error.subject}, sys.stdout)
    else:
        json.dump({"key": key, "chain": chain}, sys.stdout)


def open_store(store: bytes, password: bytes | None) -> tuple[str | None, str]:
    """Return the first key (PKCS#8 PEM) and the certificates; see `pki.pfx.read_pfx`, which has the limits.

    Raises:
        BadMaterial: the password is wrong, the store can't be read, or there is nothing in it.
    """
    if password and b"\0" in password:
        raise _not_opened()  # the library passes passwords on as C strings, and panics
    try:
        opened = pkcs12.load_pkcs12(store, password)
        found = [opened.cert, *opened.additional_certs]
        certificates = list(dict.fromkeys(one.certificate for one in found if one is not None))
        # The library gives them as they are stored; what a reader takes first is the leaf.
        chain = write_certificates(_put_in_order(certificates, opened.key))
        key = None if opened.key is None else _write(opened.key)
    except UNREADABLE:
        # No cause is chained: the foreign message might show a piece of what it read.
        raise _not_opened() from None
    if key is None and not chain:
        raise BadMaterial("fileName: the PKCS#12 store holds neither a key nor a certificate.", subject="fileName")
    return key, chain


def _not_opened() -> BadMaterial:
    return BadMaterial(
        "password: it does not open the PKCS#12 store, or the store is damaged. Check the password; else export the"
        " store again.",
        subject="password",
    )


def _put_in_order(certificates: Sequence[x509.Certificate], key: PrivateKeyTypes | None) -> Sequence[x509.Certificate]:
    """Return all certificates: the chain, the leaf (the key's) first, then those that are no part of it."""
    if not certificates:
        return []
    wanted = "" if key is None else hash_public_key(key.public_key())  # type: ignore[arg-type] # its library's union
    own = [certificate for certificate in certificates if _hash_key(certificate) == wanted]
    chain = order_chain(certificates, leaf=pick_leaf(own or certificates), subject="fileName")
    in_chain = set(chain)
    return [*chain, *(certificate for certificate in certificates if certificate not in in_chain)]


def _hash_key(certificate: x509.Certificate) -> str | None:
    key = find_public_key(certificate)
    return None if key is None else hash_public_key(key)


def _write(key: PrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _limit_resources(cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a key may be in memory
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))


if __name__ == "__main__":
    main()
