"""The service's messages name requests; at a terminal they name commands. Each phrase is one that the service says."""

from pathlib import Path

import pytest

import certorbit
from certorbit.cli.main import app
from certorbit.cli.wording import PHRASES, in_commands

NATIVE = "http://127.0.0.1:8080/api/certorbit/v1/configs/shop%2Dfront/certificates/x/renew"
DIALECT = "http://127.0.0.1:8080/api/v4.3/conf/prod/load-balancers/edge/certificates?provider=link11"


@pytest.mark.parametrize("phrase", [phrase for phrase, _ in PHRASES])
def test_the_service_still_says_what_is_put_into_other_words(phrase: str) -> None:
    source = Path(certorbit.__file__).parent
    texts = [path.read_text() for folder in ("api", "services") for path in (source / folder).rglob("*.py")]
    joined = [text.replace('"\n', "").replace('f"', '"') for text in texts]  # messages go over several lines
    assert any(phrase in " ".join(text.replace('"', "").split()) for text in joined)


@pytest.mark.parametrize("command", [command for _, command in PHRASES])
def test_every_command_that_is_named_exists(command: str) -> None:
    from typer.main import get_command

    words = command.strip("(`)").split()[1:]
    found = get_command(app)
    while words and hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    assert not hasattr(found, "commands")
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_a_request_in_a_message_becomes_a_command_with_the_configuration() -> None:
    said = "There is no load balancer 'x'; GET load-balancers shows those that there are."
    assert in_commands(said, address=DIALECT) == (
        "There is no load balancer 'x'; `certorbit load-balancers list prod` shows those that there are."
    )
    assert "list shop-front`" in in_commands(said, address=NATIVE)
    assert "list CONFIG`" in in_commands(said, address="http://127.0.0.1:8080/api/certorbit/v1/targets")


def test_a_listener_in_a_message_becomes_options() -> None:
    said = "listener: 'edge' has several listeners that fit; say which: listener=a&listener-port=1, listener=b&listener-port=2."
    assert in_commands(said, address=DIALECT).endswith("say which: --listener a --port 1, --listener b --port 2.")
