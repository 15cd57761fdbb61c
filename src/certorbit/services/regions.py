"""Regions: which datacenter of the operator's own load balancers serves which city. The same in all configurations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from certorbit.errors import BadInput
from certorbit.model.audit import Action, AuditEvent, ObjectChange
from certorbit.model.entry import ConfigID
from certorbit.ports.store import UnitOfWork
from certorbit.region_settings import AUTOMATIC, RegionSettings
from certorbit.services.configurations import get_configuration

OWN = "link11"  # the provider's name of load balancers that the operator runs (contract.md)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionalBalancer:
    """A load balancer with its regions.

    id: the target's name. name: the load balancer's. regions: datacenter or `automatic`, by the code of each city.
    upstream_regions: the datacenters that may be chosen.
    """

    id: str
    name: str
    regions: Mapping[str, str]
    upstream_regions: Sequence[str]


def list_regions(tx: UnitOfWork, config: ConfigID, *, rules: RegionSettings) -> Sequence[RegionalBalancer]:
    """Return the operator's own load balancers as they were seen last, by id. Raises NotFound."""
    get_configuration(tx, config)
    chosen = tx.regions.list()
    return [
        RegionalBalancer(
            id=target,
            name=name,
            regions=_effective(chosen.get(target, {}), target, rules),
            upstream_regions=upstream_regions(target, rules),
        )
        for target, name in sorted(_list_own(tx).items())
    ]


def change_regions(
    tx: UnitOfWork,
    config: ConfigID,
    wanted: Sequence[tuple[str, Mapping[str, str]]],
    *,
    rules: RegionSettings,
    now: datetime,
) -> None:
    """Write the choices of the load balancers named; what isn't named in theirs becomes `automatic`.

    wanted: load balancer's id, and datacenter by city code.

    Raises:
        NotFound: no such configuration.
        BadInput: a load balancer, a city's code or a datacenter is not known, or one is named twice. Nothing changes.
    """
    get_configuration(tx, config)
    known = _list_own(tx)
    for position, (target, regions) in enumerate(wanted):
        if target not in known:
            raise BadInput(
                f"lbs: there is no load balancer {_show(target)} of the operator's own; there are"
                f" {_list(sorted(known)) or 'none'}.",
                subject="lbs",
            )
        if target in {before for before, _ in wanted[:position]}:
            raise BadInput(f"lbs: the load balancer {target!r} is named twice.", subject="lbs")
        _check_regions(target, regions, rules)
    before, changes = tx.regions.list(), []
    for target, regions in wanted:
        chosen = {code: center for code, center in regions.items() if center != AUTOMATIC}
        tx.regions.put(target, chosen)
        if chosen != (old := dict(before.get(target, {}))):
            changes.append(ObjectChange("regions", target, old, chosen))
    if changes:
        objects = tuple(change.id for change in changes)
        event = AuditEvent(action=Action.REGIONS_CHANGED, config=config, objects=objects, changes=tuple(changes))
        tx.audit.add(event, now=now)


def upstream_regions(target: str, rules: RegionSettings) -> Sequence[str]:
    """Return the datacenters that may serve a city, of this load balancer."""
    return rules.datacenters.get(target) or rules.upstream_regions or tuple(rules.city_codes)


def _list_own(tx: UnitOfWork) -> dict[str, str]:
    """Return the load balancers' names by target."""
    own: dict[str, str] = {}
    for listener in tx.listeners.list():
        if listener.provider == OWN:
            own.setdefault(listener.key.target, listener.key.load_balancer)
    return own


def _effective(chosen: Mapping[str, str], target: str, rules: RegionSettings) -> dict[str, str]:
    """Return a value for every city; a datacenter that the settings don't know any more is as good as none."""
    allowed = upstream_regions(target, rules)
    return {code: chosen[code] if chosen.get(code) in allowed else AUTOMATIC for code in rules.city_codes}


def _check_regions(target: str, regions: Mapping[str, str], rules: RegionSettings) -> None:
    allowed = (AUTOMATIC, *upstream_regions(target, rules))
    for code, center in regions.items():
        if code not in rules.city_codes:
            raise BadInput(
                f"regions: {_show(code)} is the code of no city; use {_list(list(rules.city_codes))}.",
                subject="regions",
            )
        if center not in allowed:
            raise BadInput(
                f"regions: {_show(center)} is no datacenter of the load balancer {target!r} that can serve {code!r};"
                f" use {_list(allowed)}.",
                subject="regions",
            )


def _list(words: Sequence[str]) -> str:
    return ", ".join(words[:20]) + (", …" if len(words) > 20 else "")


def _show(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
