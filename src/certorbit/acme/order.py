"""Orders (RFC 8555 §7.4): asked for, found again, finalised, downloaded.

What the CA answered last is kept for a while, so that an order that goes through in one go asks nothing twice.
Nothing relies on it: what is not kept is fetched, and where the CA disagrees, the CA is right.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog

from certorbit.acme.account import AccountDoor
from certorbit.acme.answer import Answer, rubbish
from certorbit.acme.chains import PEM_CHAIN, find_preferred, read_chain
from certorbit.acme.directory import Directory
from certorbit.acme.exchange import Exchange
from certorbit.acme.jws import encode_base64url
from certorbit.acme.order_list import list_orders
from certorbit.acme.problems import About, ProblemDocument, ProblemType, refusal
from certorbit.acme.resources import Order, Status, read_order
from certorbit.acme.transport import was_not_sent
from certorbit.acme.waiting import Pacer, gather_all
from certorbit.clock import Chance, Clock
from certorbit.errors import OrderLost, RateLimited, Unreachable
from certorbit.model.backoff import Poll
from certorbit.model.identifiers import Identifier
from certorbit.net.guard import check_ca_url
from certorbit.settings import IssuerSettings

log = structlog.get_logger(__name__)

MOST_KEPT = 1000  # orders whose last answer is kept; more are not in flight in one process
MOST_ALTERNATES = 10
MOST_SENDINGS = 3  # of one certificate request while the order stays ready
MOST_PENDING_LOOKS = 5  # at an order that is still pending although its authorizations are valid


class OrderDesk:
    """All that is asked of one account's orders."""

    def __init__(
        self,
        exchange: Exchange,
        account: AccountDoor,
        *,
        settings: IssuerSettings,
        clock: Clock,
        chance: Chance,
        policy: Poll,
    ) -> None:
        self._exchange = exchange
        self._account = account
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._policy = policy
        self._kept: OrderedDict[str, Order] = OrderedDict()

    async def place(self, identifiers: Sequence[Identifier], *, replaces: str | None) -> str:
        """Send newOrder once and return the order's URL (`ACMEIssuer.place_order`)."""
        directory = await self._exchange.directory()
        payload: dict[str, Any] = {"identifiers": [{"type": i.type, "value": i.value} for i in identifiers]}
        if self._settings.profile:
            payload["profile"] = self._check_profile(directory)
        if replaces is not None and directory.renewal_info:
            payload["replaces"] = replaces
        about = About.REPLACEMENT if "replaces" in payload else About.NEW_ORDER
        answer = await self._account.post(directory.new_order, payload, about=about, once=True)
        url = answer.location()
        if not url:
            raise rubbish(answer, "no Location of the order")
        check_ca_url(url, directory=self._settings.directory)
        try:
            self.keep(read_order(answer, url=url, now=self._clock.now()))
        except Unreachable as error:
            # The order is placed and its URL known: that must not be lost. It is read again when it is needed.
            log.warning("acme.order_unreadable", issuer=self._settings.name, order_url=url, message=error.message)
        return url

    async def find(self, identifiers: Sequence[Identifier]) -> Sequence[str]:
        """Return the URLs of pending or ready orders for exactly these identifiers (`ACMEIssuer.find_orders`)."""
        wanted = set(identifiers)
        listed = await list_orders(self._account, ca=self._settings.name, clock=self._clock)
        found = [o for o in listed if o.status in {Status.PENDING, Status.READY} and set(o.identifiers) == wanted]
        return [self.keep(order).url for order in found]

    def has_kept(self, url: str) -> bool:
        """Return whether this process has followed the order from its last answer on."""
        return url in self._kept

    async def look(self, url: str) -> Order:
        """Return the order as it was last answered, or as the CA has it now."""
        return self._kept.get(url) or await self.fetch(url)

    async def fetch(self, url: str) -> Order:
        """Return the order as the CA has it now.

        Raises:
            OrderLost: the CA doesn't know it.
        """
        answer = await self._account.fetch(url, about=About.ORDER)
        return self.keep(read_order(answer, url=url, now=self._clock.now()))

    def keep(self, order: Order) -> Order:
        """Keep what the CA answered last, and return it."""
        self._kept[order.url] = order
        self._kept.move_to_end(order.url)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return order

    def forget(self, url: str) -> None:
        self._kept.pop(url, None)

    async def finalise(self, url: str, *, csr_der: bytes) -> None:
        """Return when the order is valid (`ACMEIssuer.finalise`)."""
        order = await self.look(url)
        pacer = Pacer(policy=self._policy, clock=self._clock, chance=self._chance)
        sendings = pending_looks = 0
        while order.status is not Status.VALID:
            if order.status is Status.READY and sendings < MOST_SENDINGS:
                sendings += 1
                order = await self._send_request(order, csr_der)
                if order.status is Status.VALID:
                    break
            elif order.status not in {Status.READY, Status.PROCESSING, Status.PENDING}:
                raise self.lost(order)
            pending_looks += order.status is Status.PENDING
            if pending_looks > MOST_PENDING_LOOKS:
                raise self.lost(order)
            if not await pacer.pause(order.retry_after):
                raise self._undecided(order)
            order = await self.fetch(url)

    async def collect(self, url: str) -> str:
        """Return the chain in the preferred variant (`ACMEIssuer.collect`)."""
        order = await self.look(url)
        if not order.certificate:
            order = await self.fetch(url)
        if order.status is not Status.VALID or not order.certificate:
            raise self._undecided(order) if order.status is Status.PROCESSING else self.lost(order)
        answer = await self._download(order.certificate)
        chain_pem = read_chain(answer)
        if self._settings.preferred_chain:
            chain_pem = await self._prefer(chain_pem, answer.links("alternate")[:MOST_ALTERNATES])
        self.forget(url)
        return chain_pem

    def lost(self, order: Order) -> OrderLost | RateLimited:
        """Return why the order can't go on, in the CA's words if it gave any."""
        self.forget(order.url)
        problem = order.problem or ProblemDocument("about:blank", f"it is {order.status}")
        refused = refusal(problem, ca=self._settings.name, about=About.ORDER)
        if isinstance(refused, RateLimited):
            return refused
        return OrderLost(refused.message, type=refused.type, detail=refused.detail, subproblems=refused.subproblems)

    def _undecided(self, order: Order) -> Unreachable:
        self.forget(order.url)
        return Unreachable(
            f"The CA {self._settings.name} left the order {order.status} for {self._policy.limit:.0f} seconds.",
            subject=urlsplit(order.url).hostname or order.url,
            phase="answer",
        )

    async def _send_request(self, order: Order, csr_der: bytes) -> Order:
        payload = {"csr": encode_base64url(csr_der)}
        try:
            answer = await self._account.post(order.finalize, payload, about=About.FINALISATION, once=True)
            return self.keep(read_order(answer, url=order.url, now=self._clock.now()))
        except Unreachable as error:
            if was_not_sent(error):
                raise
            log.info("acme.finalisation_unanswered", issuer=self._settings.name, message=error.message)
        except OrderLost as lost:
            # What we knew was old, or we raced with an earlier run of ours: the order itself says what is true.
            if lost.type != ProblemType.ORDER_NOT_READY:
                raise
        return await self.fetch(order.url)

    async def _prefer(self, default_pem: str, alternates: Sequence[str]) -> str:
        wanted = self._settings.preferred_chain
        if (found := find_preferred([default_pem], common_name=wanted)) is not None:
            return found
        answers = await gather_all(map(self._download, alternates))
        found = find_preferred(map(read_chain, answers), common_name=wanted)
        if found is None:
            log.warning("acme.preferred_chain_missing", issuer=self._settings.name, preferred_chain=wanted)
        return found or default_pem

    async def _download(self, url: str) -> Answer:
        return await self._account.post(url, None, about=About.CERTIFICATE, accept=PEM_CHAIN)

    def _check_profile(self, directory: Directory) -> str:
        profile = self._settings.profile
        if profile not in directory.profiles:
            offered = ", ".join(sorted(directory.profiles)) or "none"
            problem = ProblemDocument(
                ProblemType.INVALID_PROFILE, f"the profile {profile!r} is not offered (offered: {offered})."
            )
            raise refusal(problem, ca=self._settings.name, about=About.NEW_ORDER)
        return profile
