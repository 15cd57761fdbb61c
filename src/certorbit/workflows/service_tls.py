"""What the service itself serves HTTPS with: an entry of its own, taken anew whenever it is renewed.

The entry comes first; until it is issued, the files of the settings; without any, a certificate that this process has
made for itself. A look that goes wrong changes nothing: what is served stays.
"""

import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog

from certorbit.clock import Clock
from certorbit.errors import BadInput, CertorbitError
from certorbit.model.entry import ConfigID, Entry, EntryID, Side, Version, key_context
from certorbit.model.identifiers import Identifier
from certorbit.model.material import CertificateFacts, Material, PrivateKeyPEM
from certorbit.model.own_tls import can_check_clients, can_serve
from certorbit.net.server_tls import ClientTrust, make_server_context
from certorbit.pki.client_trust import find_usable_trust
from certorbit.pki.selfsigned import make_self_signed
from certorbit.pki.upload import read_upload
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.tls_settings import TLSSettings, split_entry

log = structlog.get_logger(__name__)

_CRL: Final = "-----BEGIN X509 CRL-----"


@dataclass(frozen=True, slots=True)
class Served:
    """What new connections are served with.

    facts: of the certificate.
    is_self_signed: no client can check it but by its fingerprint.
    has_new_clients: other client certificates are good than before, so open connections are not to go on.
    """

    context: ssl.SSLContext
    facts: CertificateFacts
    is_self_signed: bool
    has_new_clients: bool


Serve = Callable[[Served], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Certificate:
    """A certificate that can be served. mark: tells it from every other one; load: opens its key."""

    mark: str
    load: Callable[[], Material]


@dataclass(frozen=True, slots=True)
class _Clients:
    """Whom clients' certificates must come from. trust: None: nobody is asked."""

    mark: str
    trust: ClientTrust | None


class ServiceTLS:
    """Chooses what is served. Not safe for several tasks at once."""

    def __init__(
        self, settings: TLSSettings, *, store: Store, keyring: Keyring, clock: Clock, names: Sequence[Identifier]
    ) -> None:
        """names: of the self-signed certificate."""
        self._settings = settings
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._own = make_self_signed(names, common_name="Certorbit", now=clock.now())
        self._served: tuple[_Certificate, _Clients] | None = None
        self._said = ""  # the trouble that the log has already

    async def start(self) -> Served:
        """Return what to serve from the start on.

        Raises:
            CertorbitError: a file of the settings can't be used, or the database doesn't answer.
        """
        certificate, clients = await self._choose()
        try:
            served = self._build(certificate, clients)
        except CertorbitError as error:
            if not self._settings.certificate:
                raise
            # The entry can be put right through the API alone, so the API has to be there.
            self._complain(certificate.mark, error.message)
            certificate = self._choose_without_entry()
            served = self._build(certificate, clients)
        self._settle(certificate, clients, served)
        return served

    async def look(self, serve: Serve) -> None:
        """Let what is new be served, if anything is. What `serve` fails at is tried again at the next look.

        Raises:
            CertorbitError: the database doesn't answer, or a file can't be read. Whatever `serve` raises.
        """
        certificate, clients = await self._choose()
        if self._served is not None:
            served_certificate, served_clients = self._served
            if (certificate.mark, clients.mark) == (served_certificate.mark, served_clients.mark):
                return
        try:
            served = self._build(certificate, clients)
        except CertorbitError as error:
            self._complain(f"{certificate.mark} {clients.mark}", error.message)
            return
        await serve(served)
        self._settle(certificate, clients, served)

    def _build(self, certificate: _Certificate, clients: _Clients) -> Served:
        material = certificate.load()
        assert material.key is not None  # `_choose` takes none without
        return Served(
            context=make_server_context(material.chain_pem, material.key, clients=_leave_out_revoked(clients.trust)),
            facts=material.facts,
            is_self_signed=material is self._own,
            has_new_clients=self._served is not None and self._served[1].mark != clients.mark,
        )

    def _settle(self, certificate: _Certificate, clients: _Clients, served: Served) -> None:
        self._served, self._said = (certificate, clients), ""
        log.info(
            "tls.serving",
            certificate="self-signed" if served.is_self_signed else served.facts.subject or ", ".join(served.facts.san),
            fingerprint=served.facts.fingerprint,
            not_after=served.facts.not_after.isoformat(),
            client_certificates=self._settings.client_certificates,
        )
        if clients.trust is not None and not clients.trust.ca_pem:
            log.warning("tls.no_client_ca", client_ca=self._settings.client_ca)

    async def _choose(self) -> tuple[_Certificate, _Clients]:
        wanted = [self._settings.certificate]
        if self._settings.client_certificates != "off":
            wanted.append(self._settings.client_ca)
        entries = await self._store.read(partial(_find, wanted=wanted))
        return self._choose_certificate(entries[0]), self._choose_clients(entries[1] if len(entries) > 1 else None)

    def _choose_certificate(self, entry: Entry | None) -> _Certificate:
        version = entry.current if entry else None
        if entry is not None and version is not None and can_serve(entry):
            return _Certificate(f"version {version.id}", partial(self._open, version))
        if self._served is not None and self._served[0].mark.startswith("version "):
            self._complain("gone", f"{self._settings.certificate} is not there any more; its last version stays.")
            return self._served[0]
        if entry is not None and entry.side is not Side.SERVER:
            self._complain("side", f"{self._settings.certificate} is a {entry.side} certificate, not a server's.")
        return self._choose_without_entry()

    def _choose_without_entry(self) -> _Certificate:
        chain, key = self._settings.certificate_file, self._settings.key_file
        if chain is None or key is None:
            return _Certificate("self-signed", lambda: self._own)
        return _Certificate(f"files {_stamp(chain)} {_stamp(key)}", partial(_load_files, chain, key))

    def _choose_clients(self, entry: Entry | None) -> _Clients:
        settings = self._settings
        if settings.client_certificates == "off":
            return _Clients("off", None)
        is_required = settings.client_certificates == "required"
        if entry is not None and entry.current is not None and can_check_clients(entry):
            ca_pem = entry.current.chain_pem + "".join(entry.crl)
        elif settings.client_ca_file is not None:
            ca_pem = _read(settings.client_ca_file)
        elif is_required:
            return _Clients("nobody", ClientTrust(ca_pem="", has_crls=False, is_required=True))
        else:
            return _Clients("off", None)  # nothing to check them with, and no need of them
        trust = ClientTrust(ca_pem=ca_pem, has_crls=_CRL in ca_pem, is_required=is_required)
        return _Clients(sha256(ca_pem.encode()).hexdigest(), trust)

    def _open(self, version: Version) -> Material:
        assert version.sealed_key is not None  # `can_serve`
        key = PrivateKeyPEM(self._keyring.open(version.sealed_key, context=key_context(version.id)).decode())
        return Material(chain_pem=version.chain_pem, key=key, facts=version.facts)

    def _complain(self, trouble: str, message: str) -> None:
        """Log once what every look would find again."""
        if self._said != trouble:
            self._said = trouble
            log.error("tls.not_taken", certificate=self._settings.certificate, message=message)


def _find(tx: UnitOfWork, *, wanted: Sequence[str]) -> list[Entry | None]:
    found: list[Entry | None] = []
    for text in wanted:
        config, entry = split_entry(text)
        found.append(tx.entries.find(ConfigID(config), EntryID(entry)) if text else None)
    return found


def _leave_out_revoked(trust: ClientTrust | None) -> ClientTrust | None:
    """Return the trust as OpenSSL can be given it.

    Raises:
        BadMaterial: something in it can't be read.
    """
    if trust is None:
        return None
    usable = find_usable_trust(trust.ca_pem)
    if usable.left_out:
        log.warning("tls.client_cas_left_out", subjects=usable.left_out, reason="revoked")
    return replace(trust, ca_pem=usable.pem, has_crls=usable.has_lists, has_whole_paths=usable.has_whole_paths)


def _load_files(chain: Path, key: Path) -> Material:
    return read_upload(_read(chain), _read(key), side=Side.SERVER)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise _unreadable(file, error) from error


def _stamp(file: Path) -> str:
    """Return what changes when the file does, without reading it."""
    try:
        seen = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    return f"{seen.st_ino}:{seen.st_size}:{seen.st_mtime_ns}"


def _unreadable(file: Path, error: OSError) -> BadInput:
    return BadInput(f"tls: {file} can't be read: {error.strerror}. Name a file that the service may read.")
