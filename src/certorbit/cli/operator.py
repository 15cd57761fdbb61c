"""The operator's commands: they talk to a running service's API, so they work from any machine."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from certorbit.cli import showing
from certorbit.cli.failing import clear_errors
from certorbit.cli.following import follow
from certorbit.cli.remote import DEFAULT_URL, Remote, service_at
from certorbit.model.operation import OperationState
from certorbit.model.revocation import RevocationReason

Config = Annotated[str, typer.Argument(help="The configuration, for example prod")]
EntryName = Annotated[str, typer.Argument(metavar="ID", help="The certificate's id")]
OperationName = Annotated[str, typer.Argument(metavar="OPERATION", help="The operation's id")]
URL = Annotated[str, typer.Option("--url", envvar="CERTORBIT_URL", help="Where the service is")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print the API's answer as it is")]
OfConfig = Annotated[str, typer.Option("--config", help="Those of one configuration; none: all")]
OfState = Annotated[OperationState | None, typer.Option("--state", help="Those in this state")]
HowMany = Annotated[int, typer.Option("--limit", min=1, max=500, help="How many, the newest first")]
PANEL = "Commands for a running service (key: CERTORBIT_API_KEY)"
AsJSONHere = Annotated[bool, typer.Option("--json", help="Print JSON, for programs")]  # of commands that ask no API


def ask_for(*, limit: int, config: str, state: OperationState | None, entry: str = "") -> dict[str, object]:
    """Return the query of a list of operations; what isn't said is left out."""
    said = {"config": config, "entry": entry, "state": state.value if state is not None else ""}
    return {"limit": limit, **{name: value for name, value in said.items() if value}}


class ReasonName(StrEnum):
    """The reasons as people type them; the members have the names of `RevocationReason`'s."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    AFFILIATION_CHANGED = "affiliation-changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation-of-operation"


def renew(
    config: Config,
    entry: EntryName,
    *,
    issuer: Annotated[str, typer.Option(help="Ask this issuer, this time")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, and show that")] = False,
    seconds: Annotated[
        float, typer.Option("--wait-seconds", min=1, max=3600, help="With --wait: how long at most")
    ] = 300.0,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Renew a certificate now; an uploaded one is replaced.

    With --wait it ends with 0 when there is a new version, and with 1 when there is none in that time.
    """
    with clear_errors():
        service = service_at(url)
        document = service.call("POST", *_certificate(config, entry), "renew", body={"issuer": issuer})
        if not wait:
            showing.show(document, as_json=as_json, for_people=showing.show_started)
            return
        if not as_json:
            print(showing.show_started(document), flush=True)
        follow(service, document["operation"], seconds=seconds, as_json=as_json)


def retry(operation: OperationName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Start a waiting operation's next attempt now."""
    with clear_errors():
        document = service_at(url).call("POST", "operations", operation, "retry")
        showing.show(document, as_json=as_json, for_people=showing.show_started)


def cancel(operation: OperationName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Give an operation up; a first issuance takes its certificate's entry with it."""
    with clear_errors():
        document = service_at(url).call("POST", "operations", operation, "cancel")
        showing.show(document, as_json=as_json, for_people=showing.show_message)


def status(config: Config, entry: EntryName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Show when a certificate is renewed and why then."""
    with clear_errors():
        document = service_at(url).call("GET", *_certificate(config, entry), "renewal")
        showing.show(document, as_json=as_json, for_people=showing.show_renewal)


def pause(config: Config, entry: EntryName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Stop the automatic renewal of a certificate."""
    _change_renewal(config, entry, {"paused": True}, url=url, as_json=as_json)


def resume(config: Config, entry: EntryName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Let the automatic renewal of a certificate go on."""
    _change_renewal(config, entry, {"paused": False}, url=url, as_json=as_json)


def choose_issuer(
    config: Config,
    entry: EntryName,
    name: Annotated[str, typer.Argument(help='The issuer; "" for the first one again')],
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Choose the issuer that a certificate is asked of first, from now on."""
    _change_renewal(config, entry, {"issuer": name}, url=url, as_json=as_json)


def versions(config: Config, entry: EntryName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """List the versions of a certificate, the newest first; * is the current one."""
    with clear_errors():
        document = service_at(url).call("GET", *_certificate(config, entry), "versions")
        showing.show(document, as_json=as_json, for_people=showing.show_versions)


def rollback(
    config: Config,
    entry: EntryName,
    version: Annotated[str, typer.Argument(help="The version's id")],
    force: Annotated[bool, typer.Option("--force", help="Also if the version is revoked")] = False,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Make a version the current one again; the automatic renewal is paused until you resume it."""
    with clear_errors():
        path = (*_certificate(config, entry), "versions", version, "rollback")
        document = service_at(url).call("POST", *path, body={"force": force})
        showing.show(document, as_json=as_json, for_people=showing.show_message)


def revoke(
    config: Config,
    entry: EntryName,
    reason: Annotated[ReasonName, typer.Option(help="Why; the CA publishes it")],
    version: Annotated[str, typer.Option(help="Which version; else the current one")] = "",
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Revoke a certificate at its CA, for good; one that renews automatically is replaced at once."""
    with clear_errors():
        service, number = service_at(url), RevocationReason[reason.name].value
        body: dict[str, object] = {"reason": number, **({"version": version} if version else {})}
        document = service.call("POST", *_certificate(config, entry), "revoke", body=body)
        why = "" if as_json or document["operation"] else _explain_no_replacement(service, config, entry, document)
        showing.show(document, as_json=as_json, for_people=lambda shown: showing.show_revoked(shown, why=why))


def simulate(
    days: Annotated[int, typer.Option(min=1, max=366, help="How far to look")] = 30,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="Certificates to look at")] = 1000,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Show what would be renewed in the next days, by whom, and what the CAs' limits would hold back."""
    with clear_errors():
        document = service_at(url).call("GET", "renewals", query={"days": days, "limit": limit})
        showing.show(document, as_json=as_json, for_people=showing.show_forecast)


def add_operator_commands(app: typer.Typer) -> None:
    """Add the commands under a heading of their own."""
    for name, command in (
        ("renew", renew),
        ("retry", retry),
        ("cancel", cancel),
        ("renewal", status),
        ("pause", pause),
        ("resume", resume),
        ("issuer", choose_issuer),
        ("versions", versions),
        ("rollback", rollback),
        ("revoke", revoke),
        ("simulate", simulate),
    ):
        app.command(name, rich_help_panel=PANEL)(command)


def _certificate(config: str, entry: str) -> tuple[str, ...]:
    return ("configs", config, "certificates", entry)


def _explain_no_replacement(service: Remote, config: str, entry: str, revoked: Any) -> str:
    """Return why nothing takes the place of what was revoked, and what would."""
    items = service.call("GET", *_certificate(config, entry), "versions")["items"]
    if not any(item["is_current"] and item["id"] == revoked["version"] for item in items):
        return "It is not the current version; that one stays."
    explanation = str(service.call("GET", *_certificate(config, entry), "renewal")["explanation"])
    return f"{explanation} Clients get the revoked one until then: certorbit renew {config} {entry}".strip()


def _change_renewal(config: str, entry: str, change: dict[str, object], *, url: str, as_json: bool) -> None:
    with clear_errors():
        document: Any = service_at(url).call("PATCH", *_certificate(config, entry), "renewal", body=change)
        showing.show(document, as_json=as_json, for_people=showing.show_renewal)
