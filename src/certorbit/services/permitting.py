"""Who may issue for an entry, read from the store and refused with the reason (docs/decisions/0013)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from certorbit.errors import BadInput
from certorbit.model.entry import Entry
from certorbit.model.failover import OrderByConfig, order_for
from certorbit.model.identifiers import Identifier
from certorbit.model.issuer_order import IssuerOrder, explain_none, order_of, origin_of, permitted
from certorbit.model.next_version import NextVersion, find_next
from certorbit.model.operation import Operation
from certorbit.model.schedule import Schedule
from certorbit.ports.issuer import Issuer


@dataclass(frozen=True, slots=True)
class ConfigIssuers:
    """A configuration's issuers, in order of preference. is_own: the settings name them for it alone."""

    in_order: Sequence[Issuer]
    is_own: bool = False

    @property
    def order(self) -> IssuerOrder:
        """Return them as values."""
        order = order_of("", {issuer.name: issuer.directory for issuer in self.in_order})
        return replace(order, is_own=self.is_own)

    def get(self, name: str) -> Issuer:
        """Return the issuer of this name; there must be one."""
        return next(issuer for issuer in self.in_order if issuer.name == name)


def issuers_for(config: str, issuers: Sequence[Issuer], by_config: OrderByConfig) -> ConfigIssuers:
    """Return a configuration's issuers. issuers: all that there are. by_config: see `failover.order_for`."""
    by_name = {issuer.name: issuer for issuer in issuers}
    names = order_for(config, tuple(by_name), by_config)
    return ConfigIssuers(
        [by_name[name] for name in names], is_own=any(name in by_name for name in by_config.get(config, ()))
    )


def find_next_version(entry: Entry, schedule: Schedule, issuers: ConfigIssuers) -> NextVersion:
    """Return what gives the entry its next version by itself, or why nothing does."""

    def covers(name: str, identifier: Identifier) -> bool:
        return issuers.get(name).covers(identifier)

    return find_next(entry, order=issuers.order, covers=covers, chosen=schedule.issuer, paused=schedule.paused)


def check_permitted(
    entry: Entry | None, operation: Operation | None, schedule: Schedule, order: IssuerOrder
) -> tuple[str, ...]:
    """Return the issuers that may be asked, in order, one at least.

    operation: the one that is under way; None: none is.

    Raises:
        BadInput: nobody may; the message says why, and what helps.
    """
    origin = origin_of(entry, operation)
    names = permitted(order, origin, chosen=schedule.issuer)
    if not names:
        name = entry.id if entry is not None else operation.entry_id if operation is not None else ""
        raise BadInput(f"Nobody may issue for {name!r} now. {explain_none(origin, order)}", subject="issuer")
    return names
