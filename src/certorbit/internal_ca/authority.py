"""The built-in CA of a deployment: its root, its issuing certificate, what it issued and revoked.

Every process has one of these over the same store; whatever must be the same for all of them is there.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certorbit.clock import Clock
from certorbit.errors import Broken, IssuerRefused
from certorbit.internal_ca.certificates import Signer, make_issuing, make_leaf, make_root
from certorbit.internal_ca.name_limits import check_limits, normalise_subtrees, read_subtrees
from certorbit.internal_ca.request import ACME_ERROR, Request
from certorbit.internal_ca.revocation_list import REASONS, UNSPECIFIED, make_crl
from certorbit.model.identifiers import Identifier
from certorbit.model.keyring import ISSUING_KEY_CONTEXT, ROOT_KEY_CONTEXT
from certorbit.model.material import KeyType, PrivateKeyPEM
from certorbit.pki.chain import is_issued_by
from certorbit.pki.pem import read_certificates, write_certificates
from certorbit.pki.private_key import load_own_key, make_key
from certorbit.ports.authority_store import Authority, RevokedSerial
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.settings import InternalCASettings

log = structlog.get_logger(__name__)

ROOT_CONTEXT = ROOT_KEY_CONTEXT
ISSUING_CONTEXT = ISSUING_KEY_CONTEXT
CRL_VALIDITY = timedelta(days=7)  # BR 4.9.7 asks a renewal at least every 7 days; we make a new one after half of it
CRL_PATH = "/crl/internal.crl"


@dataclass(frozen=True, slots=True)
class _Opened:
    """The authority as stored and as parsed, and the name limits that its root was made with."""

    stored: Authority
    issuing: x509.Certificate
    root_subtrees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _CachedCRL:
    der: bytes
    entries: tuple[RevokedSerial, ...]
    crl: x509.CertificateRevocationList


class InternalAuthority:
    """The built-in CA. Implements `ports.authority.AuthorityDoor`; `InternalIssuer` is its other door.

    Private keys stay sealed and are opened for one signature each (microseconds).
    """

    def __init__(
        self, *, store: Store, keyring: Keyring, clock: Clock, settings: InternalCASettings, public_url: str
    ) -> None:
        """Args: public_url: how outsiders reach the API, for the CRL's address; "" leaves that out.

        Raises:
            BadIdentifier: `settings.permitted_names` has something that is no DNS name.
        """
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._settings = settings
        self._subtrees = normalise_subtrees(settings.permitted_names)
        self._crl_url = public_url.rstrip("/") + CRL_PATH if public_url else ""
        self._opened: _Opened | None = None
        self._crl: _CachedCRL | None = None
        self._crl_lock = asyncio.Lock()

    async def ensure(self) -> None:
        """Return when the deployment has its root and issuing certificate; make them if it has none.

        May run any number of times and in several processes at once: the first one to commit wins.
        """
        await self._open()

    async def root_pem(self) -> str:
        return (await self._open()).stored.root_pem

    async def issuing_pem(self) -> str:
        return (await self._open()).stored.issuing_pem

    async def crl_der(self) -> bytes:
        """Return the present CRL; see the port. A revocation is in it as soon as `revoke` has returned."""
        async with self._crl_lock:  # one at a time: many readers at once need one new CRL, not one each
            now = self._clock.now()
            revoked = tuple(await self._store.read(lambda tx: tx.authorities.list_revoked()))
            cached = self._crl
            if cached is not None and cached.entries == revoked:
                age = now - cached.crl.last_update_utc
                if timedelta(0) <= age < CRL_VALIDITY / 2:
                    return cached.der
            self._crl = await self._make_crl()
            return self._crl.der

    async def check_names(self, identifiers: tuple[Identifier, ...]) -> None:
        """Return if the settings and the root both allow these names.

        Raises:
            IssuerRefused: rejectedIdentifier.
        """
        opened = await self._open()
        check_limits(identifiers, limits=(self._subtrees, opened.root_subtrees))

    async def find_issued(self, order_url: str) -> str | None:
        """Return the chain that was issued for the order."""
        return await self._store.read(lambda tx: tx.authorities.find_issued(order_url))

    async def issue(self, order_url: str, *, request: Request) -> str:
        """Return the chain (PEM, leaf and issuing certificate) for the order. Of two at once both get the same one.

        Raises:
            IssuerRefused: names that aren't allowed, or the issuing certificate is at its end.
        """
        await self.check_names(request.identifiers)
        opened = await self._open()
        now = self._clock.now()
        if now + timedelta(minutes=1) >= opened.issuing.not_valid_after_utc:
            detail = f"The built-in CA ended at {opened.issuing.not_valid_after_utc.isoformat()}."
            raise IssuerRefused(
                f"{detail} Configure another issuer.",
                type=ACME_ERROR + "serverInternal",
                detail=detail,
            )
        leaf = make_leaf(
            request,
            issuing=self._signer(opened),
            now=now,
            life=timedelta(days=self._settings.lifetime_days),
            crl_url=self._crl_url,
        )
        chain_pem = write_certificates([leaf, opened.issuing])

        def record(tx: UnitOfWork) -> str:
            earlier = tx.authorities.find_issued(order_url)
            if earlier is not None:
                return earlier
            tx.authorities.add_issued(
                order_url,
                serial=format(leaf.serial_number, "x"),
                chain_pem=chain_pem,
                not_after=leaf.not_valid_after_utc,
            )
            return chain_pem

        return await self._store.write(record)

    async def revoke(self, leaf: x509.Certificate, *, reason: int) -> None:
        """Put the leaf on the CRL; one that is there already keeps its first date and reason.

        Raises:
            IssuerRefused: badRevocationReason, or unauthorized when this CA did not issue it.
        """
        if reason != UNSPECIFIED and reason not in REASONS:
            detail = f"The reason {reason} is not one for a leaf (RFC 5280 §5.3.1)."
            raise IssuerRefused(detail, type=ACME_ERROR + "badRevocationReason", detail=detail)
        opened = await self._open()
        if not is_issued_by(leaf, opened.issuing):
            detail = "The certificate was not issued by the built-in CA."
            raise IssuerRefused(detail, type=ACME_ERROR + "unauthorized", detail=detail)
        serial = format(leaf.serial_number, "x")
        now = self._clock.now()
        await self._store.write(lambda tx: tx.authorities.revoke(serial, now=now, reason=reason))

    async def _open(self) -> _Opened:
        if self._opened is None:
            stored = await self._store.read(lambda tx: tx.authorities.find())
            self._opened = self._parse(stored if stored is not None else await self._create())
        return self._opened

    async def _create(self) -> Authority:
        made = self._make()

        def add_unless_there(tx: UnitOfWork) -> Authority:
            # Looked at again inside: another process may have been quicker, and then its authority is ours too.
            there = tx.authorities.find()
            if there is None:
                tx.authorities.add(made)
            return there or made

        kept = await self._store.write(add_unless_there)
        if kept is made:
            log.info("authority.created", created_at=kept.created_at.isoformat())
        return kept

    def _make(self) -> Authority:
        now = self._clock.now()
        organization = self._settings.organization
        root_key, issuing_key = make_key(KeyType.ECDSA_P384), make_key(KeyType.ECDSA_P256)
        root = make_root(
            _load(root_key),
            organization=organization,
            permitted_subtrees=self._subtrees,
            now=now,
            life=timedelta(days=365.25) * self._settings.root_years,
        )
        signer = Signer(root, _load(root_key))
        issuing = make_issuing(_load(issuing_key), root=signer, organization=organization, now=now)
        return Authority(
            root_pem=write_certificates([root]),
            issuing_pem=write_certificates([issuing]),
            sealed_root_key=self._keyring.seal(root_key.reveal().encode(), context=ROOT_CONTEXT),
            sealed_issuing_key=self._keyring.seal(issuing_key.reveal().encode(), context=ISSUING_CONTEXT),
            created_at=now,
        )

    def _parse(self, stored: Authority) -> _Opened:
        (root,) = read_certificates(stored.root_pem, subject="authority")
        (issuing,) = read_certificates(stored.issuing_pem, subject="authority")
        root_subtrees = read_subtrees(root)
        if set(root_subtrees) != set(self._subtrees):
            # The root can't be changed any more; both limits hold from now on.
            log.warning("authority.limits_differ", root=list(root_subtrees), settings=list(self._subtrees))
        return _Opened(stored=stored, issuing=issuing, root_subtrees=root_subtrees)

    def _signer(self, opened: _Opened) -> Signer:
        pem = self._keyring.open(opened.stored.sealed_issuing_key, context=ISSUING_CONTEXT).decode()
        return Signer(opened.issuing, _load(PrivateKeyPEM(pem)))

    async def _make_crl(self) -> _CachedCRL:
        opened = await self._open()
        # Entries and number in one transaction: a higher number never has fewer entries.
        revoked, number = await self._store.write(
            lambda tx: (tuple(tx.authorities.list_revoked()), tx.authorities.next_crl_number())
        )
        der = make_crl(
            revoked, issuing=self._signer(opened), number=number, now=self._clock.now(), validity=CRL_VALIDITY
        )
        log.info("authority.crl_made", number=number, entries=len(revoked))
        return _CachedCRL(der=der, entries=revoked, crl=x509.load_der_x509_crl(der))


def _load(key: PrivateKeyPEM) -> ec.EllipticCurvePrivateKey:
    loaded = load_own_key(key)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise Broken("A key of the built-in CA is not an ECDSA key.")
    return loaded
