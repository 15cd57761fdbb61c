"""Debian's BIND on loopback: `named` with a configuration, zones and TSIG keys of its own.

Synchronous and quick, so it can be used in threads, plain and async tests alike. `rndc` is not needed: zones are
changed by dynamic updates, as every other program does it.
"""

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.update

from e2e.service import free_port
from programs import require_program

KEY_NAME = "certorbit-test."
KEY_SECRET = "bm90LWEtc2VjcmV0LWp1c3QtYS10ZXN0LWtleS1vZi0zMiE="
READY_SECONDS = 20.0
MOST_STARTS = 3  # a port that was free may be taken a moment later
ADDRESS = "127.0.0.1"

CONFIG = """\
options {{
    directory "{directory}";
    listen-on port {port} {{ {address}; }};
    listen-on-v6 {{ none; }};
    pid-file "{directory}/named.pid";
    session-keyfile "{directory}/session.key";
    managed-keys-directory "{directory}";
    recursion {recursion};
    dnssec-validation no;
    notify no;
    minimal-responses no;
    empty-zones-enable no;
}};
controls {{ }};
key "{key_name}" {{ algorithm hmac-sha256; secret "{key_secret}"; }};
{zones}
"""
ZONE = """\
$TTL 60
@ IN SOA ns1.{zone}. hostmaster.{zone}. ( 1 3600 600 86400 1 )
@ IN NS ns1.{zone}.
ns1 IN A 127.0.0.1
{records}
"""


@dataclass
class Bind:
    """A running `named`. `stop()` ends it; nothing else is touched."""

    directory: Path
    port: int
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def server(self) -> str:
        """Its address and port, as the settings write it."""
        return f"{ADDRESS}:{self.port}"

    def read_txt(self, name: str) -> set[str]:
        """Return the TXT values of a name."""
        answer = dns.query.udp(dns.message.make_query(name, "TXT"), ADDRESS, port=self.port, timeout=5)
        owner = dns.name.from_text(name)
        return {
            b"".join(record.strings).decode()
            for rrset in answer.answer
            if rrset.name == owner
            for record in rrset
            if hasattr(record, "strings")
        }

    def add_record(self, zone: str, name: str, kind: str, value: str) -> None:
        """Add a record as some other program with a key would."""
        update = dns.update.UpdateMessage(zone)
        update.use_tsig(dns.tsig.Key(KEY_NAME, KEY_SECRET, "hmac-sha256"))
        update.add(dns.name.from_text(name), 60, kind, value)
        answer = dns.query.tcp(update, ADDRESS, port=self.port, timeout=5)
        assert answer.rcode() == dns.rcode.NOERROR, dns.rcode.to_text(answer.rcode())

    def log_text(self) -> str:
        return (self.directory / "named.log").read_text(errors="replace")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process = None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start `named` with what the directory holds and return when it answers."""
        with (self.directory / "named.log").open("ab") as output:
            self._process = subprocess.Popen(
                [require_program("named"), "-f", "-g", "-n", "1", "-c", str(self.directory / "named.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert self.is_running(), f"named ended at once: {self.log_text()[-2000:]}"
            try:
                dns.query.udp(dns.message.make_query(".", "SOA"), ADDRESS, port=self.port, timeout=0.2)
            except (dns.exception.Timeout, OSError):  # not listening yet
                assert time.monotonic() < deadline, f"named is not ready: {self.log_text()[-2000:]}"
                threading.Event().wait(0.02)
            else:
                return


def start_bind(
    directory: Path,
    zones: Mapping[str, Sequence[str]],
    *,
    secondary_of: Bind | None = None,
    recursion: bool = False,
) -> Bind:
    """Start `named` and return when it answers.

    Args:
        zones: by name, the records besides SOA and name servers, as lines of a zone file.
        secondary_of: the zones are transferred from there instead.
        recursion: follow CNAMEs from one zone into another, as resolvers do.
    """
    require_program("named")
    directory.mkdir(parents=True, exist_ok=True)
    for zone, records in zones.items():
        if secondary_of is None:
            (directory / f"{zone}.zone").write_text(ZONE.format(zone=zone, records="\n".join(records)))
    for turn in range(1, MOST_STARTS + 1):
        bind = Bind(directory, free_port())
        _write_config(bind, zones, secondary_of=secondary_of, recursion=recursion)
        try:
            bind.launch()
        except BaseException as error:
            bind.stop()
            if not isinstance(error, AssertionError) or turn == MOST_STARTS:
                raise
        else:
            return bind
    raise AssertionError("the last turn returns or raises")


@contextmanager
def running_bind(directory: Path, zones: Mapping[str, Sequence[str]], *, recursion: bool = False) -> Iterator[Bind]:
    """A BIND for the length of a `with`."""
    bind = start_bind(directory, zones, recursion=recursion)
    try:
        yield bind
    finally:
        bind.stop()


def _write_config(
    bind: Bind, zones: Mapping[str, Sequence[str]], *, secondary_of: Bind | None, recursion: bool
) -> None:
    if secondary_of is None:
        body = (
            'zone "{zone}" {{ type primary; file "{zone}.zone";'
            f' update-policy {{{{ grant "{KEY_NAME}" zonesub ANY; }}}}; }}}};'
        )
    else:
        body = (
            'zone "{zone}" {{ type secondary; file "{zone}.copy"; masterfile-format text;'
            f" primaries {{{{ {ADDRESS} port {secondary_of.port}; }}}}; }}}};"
        )
    (bind.directory / "named.conf").write_text(
        CONFIG.format(
            directory=bind.directory,
            port=bind.port,
            address=ADDRESS,
            recursion="yes" if recursion else "no",
            key_name=KEY_NAME,
            key_secret=KEY_SECRET,
            zones="\n".join(body.format(zone=zone) for zone in zones),
        )
    )
