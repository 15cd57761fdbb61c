"""Commands for targets and load balancers. They talk to a running service, but for `targets check --local`."""

from typing import Annotated, Any

import typer

from certorbit.cli import showing, showing_targets
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import URL, AsJSON, Config, EntryName
from certorbit.cli.remote import DEFAULT_URL, service_at
from certorbit.errors import BadInput, Refused
from certorbit.settings import Settings

DIALECT = "/api/v4.3"
CHECK_SECONDS = 130.0  # a check ends within 120 (deploying/checking.py)
PANEL = "Targets and load balancers"
EntryOrLink = Annotated[str, typer.Argument(metavar="ID", help="The certificate's id, or the link of a copy")]
BalancerName = Annotated[str, typer.Option("--load-balancer", help="Its name, as `load-balancers list` shows it")]
Provider = Annotated[str, typer.Option(help="aws, gcp, or link11 for those that you run yourself")]
Region = Annotated[str, typer.Option(help="The load balancer's region, if it has one")]
ListenerName = Annotated[str, typer.Option("--listener", help="The listener, where there are several")]
ListenerPort = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="The listener's port, likewise")]
Classic = Annotated[bool, typer.Option("--classic", help="AWS: a Classic Load Balancer of this name")]

targets = typer.Typer(help="Targets: those of the settings, and whether they can be used.", no_args_is_help=True)


@targets.command("list")
def list_targets(url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """List the targets of the service's settings."""
    with clear_errors():
        document = service_at(url).call("GET", "targets")
        showing.show(document, as_json=as_json, for_people=showing_targets.show_targets)


@targets.command("check")
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Which ones; none: all")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Check from here, by this machine's settings; no service has to run")
    ] = False,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Find out whether targets can be reached, read and written; nothing that is served changes.

    Ends with 1 if anything failed.
    """
    with clear_errors():
        items = _check_here(names or []) if local else _check_there(names or [], url)
        if not items:
            raise Refused("There is nothing to check: the settings have no [[targets]] table.")
        showing.show({"items": items}, as_json=as_json, for_people=showing_targets.show_checks)
        if failed := [item["target"] for item in items if not item["ok"]]:
            raise Refused(f"{len(failed)} of {len(items)} targets can't be used: {', '.join(failed)}.")


def list_load_balancers(config: Config, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """List the listeners of all load balancers with what they serve."""
    with clear_errors():
        document = service_at(url).call("GET", "conf", config, "load-balancers", prefix=DIALECT)
        showing.show(document, as_json=as_json, for_people=showing_targets.show_load_balancers)


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
    """Let a load balancer serve a certificate, and show how far that is. Repeating it is harmless."""
    with clear_errors():
        query = _name_listener(provider, region, listener, port, classic=classic)
        query["default"] = "true" if default else "false"
        service = service_at(url)
        place = ("conf", config, "load-balancers", load_balancer, "certificates", certificate)
        service.tell("PUT", *place, query=query, prefix=DIALECT)
        document = service.call("GET", *_deployments_of(config, certificate))
        showing.show(document, as_json=as_json, for_people=showing_targets.show_attachments)


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
) -> None:
    """Take a certificate off a load balancer, if it is not the default there. Repeating it is harmless."""
    with clear_errors():
        query = _name_listener(provider, region, listener, port, classic=classic)
        query["certificate-id"] = certificate
        place = ("conf", config, "load-balancers", load_balancer, "certificates")
        service_at(url).tell("DELETE", *place, query=query, prefix=DIALECT)
        print(showing.plain(f"{certificate} is off {load_balancer}, or on its way."))


def deploy(config: Config, certificate: EntryName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Start a certificate's deployment, or the next attempt of a waiting one, now."""
    with clear_errors():
        document = service_at(url).call("POST", *_deployments_of(config, certificate))
        showing.show(document, as_json=as_json, for_people=showing_targets.show_deploy)


def publish(
    config: Config,
    bucket: Annotated[
        list[str] | None,
        typer.Option("--bucket", metavar="NAME=URL", help="A bucket of the service's settings; repeat it for several"),
    ] = None,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Write a configuration's bundle to buckets; without any --bucket to the default one."""
    with clear_errors():
        buckets = [_read_bucket(text) for text in bucket or []]
        document = service_at(url).call("PUT", "tools", "publish", config, body=buckets, prefix=DIALECT)
        showing.show(document, as_json=as_json, for_people=showing_targets.show_published)


def add_target_commands(app: typer.Typer) -> None:
    """Add the commands under a heading of their own."""
    balancers = typer.Typer(help="Load balancers that certificates can be attached to.", no_args_is_help=True)
    balancers.command("list")(list_load_balancers)
    app.add_typer(targets, name="targets", rich_help_panel=PANEL)
    app.add_typer(balancers, name="load-balancers", rich_help_panel=PANEL)
    for name, command in (("attach", attach), ("detach", detach), ("deploy", deploy), ("publish", publish)):
        app.command(name, rich_help_panel=PANEL)(command)


def _check_here(names: list[str]) -> list[dict[str, Any]]:
    from certorbit.cli.running import check_targets  # noqa: PLC0415 - takes two seconds, see main.py
    from certorbit.deploying.checking import is_usable  # noqa: PLC0415 - it comes with the service

    found = check_targets(Settings(), names)
    return [
        {
            "target": name,
            "ok": is_usable(findings),
            "findings": [{"what": one.what, "grade": one.grade.value, "message": one.message} for one in findings],
        }
        for name, findings in found.items()
    ]


def _check_there(names: list[str], url: str) -> list[Any]:
    service = service_at(url)
    if not names:
        names = [item["name"] for item in service.call("GET", "targets")["items"]]
    return [service.call("POST", "targets", name, "check", seconds=CHECK_SECONDS) for name in names]


def _deployments_of(config: str, certificate: str) -> tuple[str, ...]:
    return ("configs", config, "certificates", certificate, "deployments")


def _name_listener(provider: str, region: str, listener: str, port: int | None, *, classic: bool) -> dict[str, object]:
    """Return the query that names a listener; what isn't said is left out."""
    query: dict[str, object] = {"provider": provider, "region": region, "elbv2": "false" if classic else "true"}
    if listener:
        query["listener"] = listener
    if port is not None:
        query["listener-port"] = port
    return query


def _read_bucket(text: str) -> dict[str, str]:
    """Return a bucket as the API has it. Raises BadInput."""
    name, is_there, url = text.partition("=")
    if not (is_there and name and url):
        raise BadInput(f"--bucket: {text!r} is not NAME=URL, for example edge=s3://certificates/edge.")
    return {"name": name, "url": url}
