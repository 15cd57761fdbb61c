"""An account at an ACME CA as our issuer (`ports.issuer`): joins the parts, adds nothing of its own."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from certorbit.acme.account import AccountDoor
from certorbit.acme.caa import CAALookup, check_caa
from certorbit.acme.chains import leaf_der
from certorbit.acme.exchange import Exchange
from certorbit.acme.jws import encode_base64url
from certorbit.acme.order import OrderDesk
from certorbit.acme.problems import About, ProblemType
from certorbit.acme.proving import DNS_01, Prover
from certorbit.acme.renewal_info import RenewalInfoDoor
from certorbit.acme.resources import Status
from certorbit.acme.transport import Transport
from certorbit.clock import Chance, Clock
from certorbit.errors import BadMaterial, IssuerRefused, Unreachable
from certorbit.model.backoff import Poll
from certorbit.model.identifiers import Identifier
from certorbit.model.renewal import RenewalInfo
from certorbit.ports.keyring import Keyring
from certorbit.ports.solver import Solver
from certorbit.ports.store import Store
from certorbit.settings import IssuerSettings

log = structlog.get_logger(__name__)

MOST_SECONDS = 300.0  # ours: how long a CA may take to validate, and to issue


class ACMEIssuer:
    """Gets certificates from one account at one CA. Belongs to the event loop that it is first used in.

    Args:
        solvers: in order of preference.
        caa: where CAA records are looked up before an order; None: they are not.
        max_requests_in_flight: also the number of connections; Debian's Pebble wedges above 16.
        limit_seconds: the longest wait for the validation, and again for the certificate.

    Raises:
        BadInput: the settings' `ca_bundle` can't be read.
    """

    def __init__(  # noqa: PLR0913 - the parts that app joins, all by name
        self,
        *,
        settings: IssuerSettings,
        store: Store,
        keyring: Keyring,
        solvers: Sequence[Solver],
        caa: CAALookup | None = None,
        clock: Clock,
        chance: Chance,
        max_requests_in_flight: int = 100,
        limit_seconds: float = MOST_SECONDS,
    ) -> None:
        self._settings = settings
        self._solvers = solvers
        self._caa = caa
        self._transport = Transport(
            ca=settings.name,
            directory=settings.directory,
            ca_bundle=settings.ca_bundle,
            max_requests_in_flight=max_requests_in_flight,
        )
        self._exchange = Exchange(
            self._transport,
            directory=settings.directory,
            clock=clock,
            chance=chance,
            max_requests_in_flight=max_requests_in_flight,
        )
        self._account = AccountDoor(self._exchange, settings=settings, store=store, keyring=keyring, clock=clock)
        self._renewal_info = RenewalInfoDoor(self._exchange, ca=settings.name, clock=clock, chance=chance)
        policy = Poll(limit=limit_seconds)
        self._orders = OrderDesk(
            self._exchange, self._account, settings=settings, clock=clock, chance=chance, policy=policy
        )
        self._prover = Prover(
            self._account, ca=settings.name, solvers=solvers, clock=clock, chance=chance, policy=policy
        )

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def directory(self) -> str:
        return self._settings.directory

    @property
    def can_issue_wildcards(self) -> bool:
        return any(solver.challenge_type == DNS_01 for solver in self._solvers)

    def covers(self, identifier: Identifier) -> bool:
        name = replace(identifier, value=identifier.value.removeprefix("*."))
        return any(solver.covers(name, is_wildcard=identifier.is_wildcard) for solver in self._solvers)

    async def check_names(self, identifiers: Sequence[Identifier]) -> None:
        if self._caa is None:
            return
        try:
            directory = await self._exchange.directory()
        except Unreachable as error:  # newOrder will say so, and count as an attempt at it
            log.info("caa.not_checked", issuer=self.name, message=error.message)
            return
        await check_caa(identifiers, ca=self.name, ca_names=directory.caa_identities, lookup=self._caa)

    async def find_orders(self, identifiers: Sequence[Identifier]) -> Sequence[str]:
        return await self._orders.find(identifiers)

    async def place_order(self, identifiers: Sequence[Identifier], *, replaces: str | None = None) -> str:
        """Ask for a new order and return its URL.

        Args:
            replaces: the ARI CertID of the predecessor; left out if the CA has no ARI (RFC 9773 §5).

        Raises:
            Unreachable: with `was_not_sent` false the CA may have the order all the same: `find_orders` tells.
            AlreadyReplaced, RateLimited, AccountProblem, IssuerRefused: the CA's word.
        """
        return await self._orders.place(identifiers, replaces=replaces)

    async def prove(self, order_url: str) -> None:
        is_resumed = not self._orders.has_kept(order_url)
        order = await self._orders.look(order_url)
        if order.status in {Status.READY, Status.PROCESSING, Status.VALID}:
            if is_resumed:
                await self._prover.clean_up_after(order)
            return
        self._orders.forget(order_url)  # whatever comes, it will not be pending any more
        if order.status is not Status.PENDING:
            if is_resumed:
                await self._prover.clean_up_after(order)
            await self._prover.explain(order)
            raise self._orders.lost(order)
        await self._prover.prove(order, is_resumed=is_resumed)
        # RFC 8555 §7.1.6: with all authorizations valid the order is ready. Should the CA think otherwise, it says so
        # when it is asked to finalise.
        self._orders.keep(replace(order, status=Status.READY))

    async def finalise(self, order_url: str, *, csr_der: bytes) -> None:
        await self._orders.finalise(order_url, csr_der=csr_der)

    async def collect(self, order_url: str) -> str:
        return await self._orders.collect(order_url)

    async def revoke(self, chain_pem: str, *, reason: int) -> None:
        """Revoke the leaf, signed with the account's key (RFC 8555 §7.6).

        Raises:
            BadMaterial: the text holds no certificate.
        """
        try:
            certificate = encode_base64url(leaf_der(chain_pem))
        except ValueError as error:
            raise BadMaterial("There is no certificate to revoke.", subject="chain") from error
        url = (await self._exchange.directory()).revoke_cert
        try:
            await self._account.post(url, {"certificate": certificate, "reason": reason}, about=About.REVOCATION)
        except IssuerRefused as refused:
            if refused.type != ProblemType.ALREADY_REVOKED:
                raise

    async def renewal_info(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:
        return await self._renewal_info.ask(chain_pem, previous=previous)

    async def find_account(self) -> str | None:
        """Return the URL of the stored key's account; None if there is no key, or the CA doesn't know it."""
        return await self._account.find()

    async def deactivate_account(self) -> None:
        """Deactivate the account for good (RFC 8555 §7.3.6)."""
        await self._account.deactivate()

    async def close(self) -> None:
        await self._transport.close()
