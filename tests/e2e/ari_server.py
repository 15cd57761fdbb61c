"""acme2certifier on loopback: an ACME server of other people's with ARI (RFC 9773), run from its Python package.

It lets every challenge pass without looking (its own switch for tests), and ignores `replaces`: what it is good for
here is that somebody else reads our CertIDs and writes the windows.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from make import make_certificate, make_key, pem, write_key

_CONFIGURATION = """\
[CAhandler]
handler_module: acme2certifier.cahandlers.openssl_ca_handler
issuing_ca_key: {folder}/ca.key
issuing_ca_cert: {folder}/ca.pem
issuing_ca_crl: {folder}/crl.pem
ca_cert_chain_list: ["{folder}/ca.pem"]
cert_save_path: {folder}/certificates
cert_validity_days: 90
[DBhandler]
handler: wsgi
dbfile: {folder}/acme.db
[Challenge]
challenge_validation_disable: True
[Renewalinfo]
{renewal_info}
"""
_PROGRAM = """\
from wsgiref.simple_server import make_server
from acme2certifier.share.acme2certifier_wsgi import application
server = make_server("127.0.0.1", 0, application)
print("port", server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def running_ari_server(folder: Path, *, renewal_info: str) -> Iterator[str]:
    """Run it and yield its directory URL. renewal_info: lines of the `[Renewalinfo]` section."""
    _require_package()
    _write_files(folder, renewal_info=renewal_info)
    environment = {
        "PATH": os.environ["PATH"],
        "ACME_SRV_CONFIGFILE": str(folder / "acme_srv.cfg"),
        "ACME2CERTIFIER_BASE_DIR": str(folder),
        "ACME2CERTIFIER_I_KNOW_THE_RISK": "1",  # without it challenges are looked at all the same
    }
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{_read_port(process, folder / 'log')}/directory"
        finally:
            process.kill()


def _read_port(process: subprocess.Popen[bytes], log_file: Path) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b"port "):
            return int(line.split()[1])
    raise RuntimeError(f"acme2certifier ended at once: {log_file.read_text()}")


def _write_files(folder: Path, *, renewal_info: str) -> None:
    key = make_key("ecdsa-p256", 77)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    root = make_certificate(key=key, subject="CN=ARI Root", is_ca=True, days=3650, extensions=[identifier])
    (folder / "certificates").mkdir(parents=True)
    (folder / "ca.pem").write_text(pem(root))
    (folder / "ca.key").write_text(write_key(key))
    (folder / "crl.pem").write_text("")
    (folder / "acme_srv.cfg").write_text(_CONFIGURATION.format(folder=folder, renewal_info=renewal_info))


def _require_package() -> None:
    if importlib.util.find_spec("acme2certifier") is not None:
        return
    reason = "the package acme2certifier is not installed (dependency group dev)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
