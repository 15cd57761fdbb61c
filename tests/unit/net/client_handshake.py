"""A client's handshake with a context of ours: OpenSSL on both sides, in memory."""

import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from make import PrivateKey, pem, write_key


def get_in(
    server: ssl.SSLContext,
    shown: Sequence[x509.Certificate],
    key: PrivateKey,
    folder: Path,
    *,
    highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bool:
    """Return whether the server ends the handshake well, and so would read a request. shown: leaf first; none is fine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, highest
    if shown:
        file = folder / "client.pem"
        file.write_text(write_key(key) + pem(*shown))
        context.load_cert_chain(file)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = server.wrap_bio(up, down, server_side=True), context.wrap_bio(down, up)
    done = {ours: False, theirs: False}
    for _ in range(10):
        for side in (theirs, ours):
            if done[side]:
                continue
            try:
                side.do_handshake()
                done[side] = True
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return all(done.values())
