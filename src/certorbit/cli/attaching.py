"""`certorbit attach` and `certorbit detach`: what is asked for, and how far it is when the service has answered.

The service answers 200 when it is done or goes on whatever fails now. So both commands look afterwards, and end with 1
when what was asked for is not so and a problem stands in its way.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from certorbit.cli import showing, showing_targets
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import URL, AsJSON, Config, EntryName
from certorbit.cli.remote import DEFAULT_URL, DIALECT, Remote, service_at
from certorbit.errors import Refused
from certorbit.model.deployment import Stage, Wanted
from certorbit.model.entry import ENTRY_ID_PATTERN

EntryOrLink = Annotated[str, typer.Argument(metavar="ID", help="The certificate's id, or the link of a copy")]
BalancerName = Annotated[str, typer.Option("--load-balancer", help="Its name, as `load-balancers list` shows it")]
Provider = Annotated[str, typer.Option(help="aws, gcp, or link11 for those that you run yourself")]
Region = Annotated[str, typer.Option(help="The load balancer's region, if it has one")]
ListenerName = Annotated[str, typer.Option("--listener", help="The listener, where there are several")]
ListenerPort = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="The listener's port, likewise")]
Classic = Annotated[bool, typer.Option("--classic", help="AWS: a Classic Load Balancer of this name")]
_ENTRY_ID = re.compile(ENTRY_ID_PATTERN)


def attach(  # noqa: PLR0913 - a listener's name has many parts
    config: Config,
    certificate: EntryName,
    *,
    load_balancer: BalancerName,
    provider: Provider = "link11",
    region: Region = "",
    listener: ListenerName = "",
    port: ListenerPort = None,
    default: Annotated[
        bool, typer.Option("--default", help="Serve it to clients that name no host, or an unknown one")
    ] = False,
    classic: Classic = False,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Let a load balancer serve a certificate, and show how far that is. Repeating it is harmless.

    Ends with 1 if it is not served yet and something stands in the way.
    """
    with clear_errors():
        place = _Place(load_balancer, provider, region, listener, port, is_classic=classic)
        service = service_at(url)
        path = ("conf", config, "load-balancers", load_balancer, "certificates", certificate)
        query = {**place.query(), "default": "true" if default else "false"}
        service.tell("PUT", *path, query=query, prefix=DIALECT)
        document = service.call("GET", *deployments_of(config, certificate))
        showing.show(document, as_json=as_json, for_people=showing_targets.show_attachments)
        for one in place.pick(document["attachments"]):
            problem = _find_problem(document, one)
            if one["wanted"] == Wanted.ATTACHED and one["stage"] != Stage.PROVEN and problem:
                raise Refused(f"{load_balancer} does not serve {certificate} yet: {problem}")


def detach(  # noqa: PLR0913 - see attach
    config: Config,
    certificate: EntryOrLink,
    *,
    load_balancer: BalancerName,
    provider: Provider = "link11",
    region: Region = "",
    listener: ListenerName = "",
    port: ListenerPort = None,
    classic: Classic = False,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Take a certificate off a load balancer, if it is not the default there, and show how far that is.

    Repeating it is harmless. Ends with 1 if it is still there and something stands in the way.
    """
    with clear_errors():
        place = _Place(load_balancer, provider, region, listener, port, is_classic=classic)
        service = service_at(url)
        entry = _find_entry(service, config, certificate)
        was_there = bool(place.pick(_look(service, config, entry)["attachments"]))
        path = ("conf", config, "load-balancers", load_balancer, "certificates")
        query = {**place.query(), "certificate-id": certificate}
        service.tell("DELETE", *path, query=query, prefix=DIALECT)
        document = _look(service, config, entry)
        left = place.pick(document["attachments"])
        if left:
            said = f"{certificate} is on its way off {load_balancer}."
        elif was_there:
            said = f"{certificate} is off {load_balancer}."
        elif entry is not None:
            said = f"{certificate} was not attached to {load_balancer}; nothing was done."
        else:  # a link that only the service can tell whose it is
            said = f"Accepted. `certorbit load-balancers list {config}` shows what {load_balancer} has."
        showing.show(document, as_json=as_json, for_people=lambda shown: _show_detached(said, shown))
        for one in left:
            if problem := _find_problem(document, one):
                raise Refused(f"{certificate} is still on {load_balancer}: {problem}")


def deployments_of(config: str, certificate: str) -> tuple[str, ...]:
    """Return the path of a certificate's deployments in the native API."""
    return ("configs", config, "certificates", certificate, "deployments")


@dataclass(frozen=True, slots=True)
class _Place:
    """How a listener is named; "" and None: it is not said."""

    load_balancer: str
    provider: str
    region: str
    listener: str
    port: int | None
    is_classic: bool

    def query(self) -> dict[str, object]:
        """Return what names the listener in a request; what isn't said is left out."""
        query: dict[str, object] = {
            "provider": self.provider,
            "region": self.region,
            "elbv2": "false" if self.is_classic else "true",
        }
        if self.listener:
            query["listener"] = self.listener
        if self.port is not None:
            query["listener-port"] = self.port
        return query

    def pick(self, attachments: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return those that are on this listener, as far as it is said which one."""
        return [one for one in attachments if self._fits(one["listener"])]

    def _fits(self, key: Mapping[str, Any]) -> bool:
        return (
            key["load_balancer"] == self.load_balancer
            and key["region"] == self.region
            and self.listener in {"", key["listener"]}
            and self.port in {None, key["port"]}
        )


def _find_entry(service: Remote, config: str, certificate: str) -> str | None:
    """Return the entry's id; that of a link is looked up. None: no entry shows this link."""
    if _ENTRY_ID.fullmatch(certificate):
        return certificate
    for item in service.call("GET", "conf", config, "certificates", prefix=DIALECT)["items"]:
        links = {link["link"] for link in item.get("links", ())}
        if links & {certificate, f"{certificate}/{item['id']}"}:  # as load balancers show it, or without the id
            return str(item["id"])
    return None


def _look(service: Remote, config: str, entry: str | None) -> Any:
    """Return where the entry is attached; nowhere if there is none: then the service's refusal says so better."""
    if entry is not None:
        try:
            return service.call("GET", *deployments_of(config, entry))
        except Refused:
            pass
    return {"total": 0, "items": [], "attachments": []}


def _show_detached(said: str, document: Any) -> str:
    attached = document["attachments"]
    return showing.plain(said) + (f"\n{showing_targets.show_attachments(document)}" if attached else "")


def _find_problem(document: Any, attachment: Mapping[str, Any]) -> str:
    """Return what stands in the way of an attachment, and when the service tries again; "": nothing does."""
    waiting = next((item for item in document["items"] if item["state"] == "waiting"), None)
    problem = attachment["problem"] or (waiting["problem"] if waiting else None)
    if not problem:
        return ""
    again = f" The next attempt is at {showing.instant(waiting['next_attempt_at'])}." if waiting else ""
    return showing.plain(f"{problem['message']}{again}")
