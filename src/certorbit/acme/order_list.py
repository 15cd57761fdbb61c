"""The account's list of orders (RFC 8555 §7.1.2.1): how an order is found again whose answer was lost."""

from collections.abc import Sequence

import structlog

from certorbit.acme.account import AccountDoor
from certorbit.acme.problems import About
from certorbit.acme.resources import Order, read_order
from certorbit.acme.waiting import gather_all
from certorbit.clock import Clock
from certorbit.errors import AccountProblem, IssuerRefused, RateLimited

log = structlog.get_logger(__name__)

MOST_PAGES = 200  # Pebble has three orders per page
MOST_LISTED = 500  # orders that are looked at, the last of the list: one request each


async def list_orders(account: AccountDoor, *, ca: str, clock: Clock) -> Sequence[Order]:
    """Return the orders that the CA lists for the account; empty if it has no list, or refuses to show it.

    Raises:
        Unreachable, RateLimited, AccountProblem: we can't know; a new order now might be a second one.
    """
    try:
        urls = await _list_urls(account)
    except IssuerRefused as refused:
        if isinstance(refused, RateLimited | AccountProblem):
            raise
        log.info("acme.no_order_list", issuer=ca, message=refused.message)
        return []

    async def fetch(url: str) -> Order | None:
        try:
            return read_order(await account.fetch(url, about=About.ORDER), url=url, now=clock.now())
        except IssuerRefused as refused:
            if isinstance(refused, RateLimited | AccountProblem):
                raise
            return None  # expired, or gone meanwhile

    return [order for order in await gather_all(map(fetch, urls[-MOST_LISTED:])) if order]


async def _list_urls(account: AccountDoor) -> list[str]:
    value = (await account.fetch(await account.get_url(), about=About.ACCOUNT)).read_object()
    page = value.get("orders")  # Boulder has none
    urls: list[str] = []
    seen: set[str] = set()
    while isinstance(page, str) and page not in seen and len(seen) < MOST_PAGES:
        seen.add(page)
        answer = await account.fetch(page, about=About.ORDER_LIST)
        listed = answer.read_object().get("orders")
        if isinstance(listed, list):
            urls += [url for url in listed if isinstance(url, str)]
        page = next(iter(answer.links("next")), None)
    return urls
