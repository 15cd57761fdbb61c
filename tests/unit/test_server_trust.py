"""`--ca-file` and `--fingerprint`: what can't be meant is said before anything is sent."""

from pathlib import Path
from urllib.request import HTTPSHandler

import pytest

from certorbit.cli.server_trust import ServerTrust
from certorbit.errors import BadInput
from make import make_authorities, pem

DIGITS = "4b" * 32


@pytest.mark.parametrize(
    "fingerprint",
    [
        f"sha256:{DIGITS}",
        DIGITS.upper(),
        f" SHA256:{DIGITS} ",
        ":".join(["4b"] * 32),  # as OpenSSL writes it
    ],
)
def test_a_fingerprint_is_taken_in_every_usual_form(fingerprint: str) -> None:
    assert ServerTrust(fingerprint=fingerprint)._read_fingerprint() == DIGITS


@pytest.mark.parametrize("fingerprint", ["sha256:", "sha256:4b", f"sha1:{DIGITS}", DIGITS[:-1], DIGITS + "4", "x" * 64])
def test_what_is_no_fingerprint_is_refused(fingerprint: str) -> None:
    with pytest.raises(BadInput, match="64 hex digits"):
        ServerTrust(fingerprint=fingerprint).handler()


def test_a_file_without_ca_certificates_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for file in (empty, tmp_path / "missing.pem"):
        with pytest.raises(BadInput, match=r"--ca-file: .*\.pem is no readable"):
            ServerTrust(ca_file=str(file)).handler()


def test_with_a_fingerprint_the_ca_is_still_checked_if_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "root.pem"
    file.write_text(pem(*make_authorities(3)))
    both = ServerTrust(ca_file=str(file), fingerprint=DIGITS)._make_context()
    assert (both.verify_mode.name, both.check_hostname) == ("CERT_REQUIRED", True)
    alone = ServerTrust(fingerprint=DIGITS)._make_context()
    assert (alone.verify_mode.name, alone.check_hostname) == ("CERT_NONE", False)
    nothing = ServerTrust()
    assert nothing._make_context().verify_mode.name == "CERT_REQUIRED"
    assert type(nothing.handler()) is HTTPSHandler
