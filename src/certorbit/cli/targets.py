"""Commands for targets and load balancers. They talk to a running service, but for `targets check --local`."""

from typing import Annotated, Any

import typer

from certorbit.cli import showing, showing_targets
from certorbit.cli.attaching import attach, deployments_of, detach
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import URL, AsJSON, Config, EntryName
from certorbit.cli.remote import DEFAULT_URL, DIALECT, service_at
from certorbit.errors import BadInput, Refused
from certorbit.settings import Settings

CHECK_SECONDS = 130.0  # a check ends within 120 (deploying/checking.py)
PANEL = "Targets and load balancers"

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
            when = "" if local else " that were read at the service's start; restart it after a change"
            raise Refused(f"There is nothing to check: there is no [[targets]] table in the settings{when}.")
        showing.show({"items": items}, as_json=as_json, for_people=showing_targets.show_checks)
        if failed := [item["target"] for item in items if not item["ok"]]:
            raise Refused(f"{len(failed)} of {len(items)} targets can't be used: {', '.join(failed)}.")


def list_load_balancers(config: Config, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """List the listeners of all load balancers with what they serve."""
    with clear_errors():
        service = service_at(url)
        document = service.call("GET", "conf", config, "load-balancers", prefix=DIALECT)
        showing.show(document, as_json=as_json, for_people=showing_targets.show_load_balancers)
        if not as_json and (
            unseen := showing_targets.show_unseen_targets(service.call("GET", "targets"), config=config)
        ):
            print(unseen)


def deploy(config: Config, certificate: EntryName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Start a certificate's deployment, or the next attempt of a waiting one, now."""
    with clear_errors():
        document = service_at(url).call("POST", *deployments_of(config, certificate))
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


def _read_bucket(text: str) -> dict[str, str]:
    """Return a bucket as the API has it. Raises BadInput."""
    name, is_there, url = text.partition("=")
    if not (is_there and name and url):
        raise BadInput(f"--bucket: {text!r} is not NAME=URL, for example edge=s3://certificates/edge.")
    return {"name": name, "url": url}
