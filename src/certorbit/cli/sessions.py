"""`certorbit sessions`: who is signed in to a running service, and the end of it."""

from typing import Annotated, Any

import typer

from certorbit.cli import showing
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import URL, AsJSON
from certorbit.cli.remote import DEFAULT_URL, NATIVE, service_at
from certorbit.errors import BadInput

sessions = typer.Typer(
    help="People who are signed in to a running service: list them, end their sessions.", no_args_is_help=True
)
Subject = Annotated[str, typer.Option("--subject", help="This person's, by the identity provider's `sub`")]


@sessions.command("list")
def list_sessions(subject: Subject = "", url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """List who is signed in, the newest first."""
    with clear_errors():
        query: dict[str, object] = {"subject": subject} if subject else {}
        document = service_at(url).call("GET", "sessions", query=query)
        showing.show(document, as_json=as_json, for_people=_show_sessions)


@sessions.command("end")
def end_sessions(
    session: Annotated[str, typer.Argument(metavar="[ID]", help="The session's id, as `sessions list` shows it")] = "",
    subject: Subject = "",
    url: URL = DEFAULT_URL,
) -> None:
    """End a session, or with --subject all of a person's. Put the person out at the identity provider first."""
    with clear_errors():
        if bool(session) == bool(subject):
            raise BadInput("Give the ID of one session, or --subject to end all of a person's.")
        if session:
            service_at(url).tell("DELETE", "sessions", session, prefix=NATIVE)
            print("Ended, at once and everywhere.")
        else:
            document = service_at(url).call("DELETE", "sessions", query={"subject": subject})
            print(f"Ended: {document['ended']}, at once and everywhere.")


def add_session_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(sessions, name="sessions")


def _show_sessions(document: Any) -> str:
    rows = [
        (
            item["id"],
            item["subject"],
            item["name"],
            item["role"],
            ", ".join(item["configurations"]) or "all",
            showing.instant(item["created_at"]),
            item["address"] or "?",
            showing.instant(item["last_seen_at"]),
            showing.instant(item["expires_at"]),
        )
        for item in document["items"]
    ]
    return showing.table(("ID", "SUBJECT", "NAME", "ROLE", "FOR", "SINCE", "FROM", "LAST SEEN", "ENDS"), rows)
