"""What OpenSSL, a judge that isn't ours, says of certificates and keys."""

import subprocess
from pathlib import Path

from programs import require_program


def verify(chain_pem: str, *, root_pem: str, folder: Path) -> None:
    """Fail unless the leaf (the first certificate) is trusted for TLS servers under this root alone."""
    chain, root = folder / "chain.pem", folder / "root.pem"
    chain.write_text(chain_pem)
    root.write_text(root_pem)
    arguments = ["-x509_strict", "-purpose", "sslserver", "-no-CAfile", "-no-CApath", "-trusted", str(root)]
    said = _run("verify", *arguments, "-untrusted", str(chain), str(chain), text="")
    assert said.endswith(": OK\n"), said


def public_key_of_key(pem: str) -> str:
    """Return the public half of the first private key in the text."""
    return _run("pkey", "-pubout", text=pem)


def public_key_of_leaf(pem: str) -> str:
    """Return the public key of the first certificate in the text."""
    return _run("x509", "-noout", "-pubkey", text=pem)


def names_of_leaf(pem: str) -> set[str]:
    """Return the DNS names of the first certificate in the text."""
    said = _run("x509", "-noout", "-ext", "subjectAltName", text=pem)
    return {word.removeprefix("DNS:").strip(",") for word in said.split() if word.startswith("DNS:")}


def _run(*arguments: str, text: str) -> str:
    command = [require_program("openssl"), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
