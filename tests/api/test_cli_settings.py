"""Wrong settings are named as whoever set them wrote them: the file's place, or the variable."""

import os
from pathlib import Path

import pytest
import typer

from certorbit.cli.failing import clear_errors
from certorbit.settings import Settings

HAPROXY = '[[targets]]\ntype = "haproxy"\nname = "edge"\n'
WITHOUT_SOCKET = HAPROXY + 'directory = "/d"\nlisteners = [{ name = "a", port = 443, crt_list = "/l" }]\n'
SECRET = "hunter2hunter2hunter2"

FILES = [
    pytest.param("bogus = 1", "certorbit.toml: bogus: there is no such setting", id="unknown"),
    pytest.param(
        "isuance = 1", "certorbit.toml: isuance: there is no such setting (did you mean issuance?)", id="misspelt"
    ),
    pytest.param(
        "[worker]\nttl_second = 60",
        "certorbit.toml: worker.ttl_second: there is no such setting (did you mean ttl_seconds?)",
        id="misspelt-in-a-table",
    ),
    pytest.param(WITHOUT_SOCKET, "certorbit.toml: targets[0].socket is missing", id="missing-in-a-variant"),
    pytest.param(
        WITHOUT_SOCKET + 'socket = "/s"\nsockte = "/s"',
        "certorbit.toml: targets[0].sockte: there is no such setting (did you mean socket?)",
        id="misspelt-in-a-variant",
    ),
    pytest.param('[[targets]]\nname = "edge"', "certorbit.toml: targets[0].type is missing", id="no-type"),
    pytest.param(
        '[[solvers]]\ntype = "http01"',
        "certorbit.toml: solvers[0].type: there is no such type; there are http-01, lexicon, rfc2136, route53, webhook",
        id="no-such-type",
    ),
    pytest.param(
        "[configurations.shop]\nissuer = 1",
        "certorbit.toml: configurations.shop.issuers is missing; certorbit.toml: configurations.shop.issuer: there is no"
        " such setting (did you mean issuers?)",
        id="by-a-name-of-the-operators",
    ),
    pytest.param(
        '[[issuers]]\nname = "a"',
        "certorbit.toml: issuers[0]: issuer 'a': directory must be the CA's https URL",
        id="a-rule-of-a-table",
    ),
    pytest.param("[issuance]\nwait = 99", "certorbit.toml: issuance.wait: Input should be less than or", id="a-value"),
    pytest.param("issuance = 3", "certorbit.toml: issuance: Input should be a valid dictionary", id="no-table"),
]
VARIABLES = [
    pytest.param(
        {"ISSUANCE__WIAT": "9"},
        "CERTORBIT_ISSUANCE__WIAT: there is no such setting (did you mean CERTORBIT_ISSUANCE__WAIT?)",
        id="misspelt",
    ),
    pytest.param({"issuance__wait": "99"}, "CERTORBIT_ISSUANCE__WAIT: Input should be less than or", id="a-value"),
    pytest.param(
        {"TARGETS": '[{"type": "haproxy", "name": "a", "directory": "/d"}]'},
        "CERTORBIT_TARGETS: [0].socket is missing",
        id="in-json",
    ),
    pytest.param(
        {"TARGETS": f'[{{"name": "{SECRET}'},
        "CERTORBIT_TARGETS is no JSON, as tables and lists in the environment are",
        id="no-json",
    ),
    pytest.param({"BOOTSTRAP_API_KEY": SECRET[:9]}, "CERTORBIT_BOOTSTRAP_API_KEY: give 20 or more", id="secret"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("CERTORBIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that the settings are refused with."""
    with pytest.raises(typer.Exit) as caught, clear_errors():
        Settings()
    assert caught.value.exit_code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert SECRET[:9] not in said.err
    return said.err


@pytest.mark.parametrize(("text", "says"), FILES)
def test_a_wrong_setting_of_the_file_is_named_by_its_place_in_the_file(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    (here / "certorbit.toml").write_text(text)
    said = refusal(capsys)
    assert says in said
    assert "CERTORBIT_" not in said


@pytest.mark.parametrize(("environment", "says"), VARIABLES)
def test_a_wrong_variable_is_named_by_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"CERTORBIT_{name}", value)
    assert says in refusal(capsys)


def test_a_variable_that_wins_over_the_file_is_the_one_that_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "certorbit.toml").write_text('[issuance]\nwait = 1\nkey_type = "dsa"')
    monkeypatch.setenv("CERTORBIT_ISSUANCE__WAIT", "99")
    said = refusal(capsys)
    assert "CERTORBIT_ISSUANCE__WAIT: Input should be less" in said
    assert "certorbit.toml: issuance.key_type: Input should be" in said
    monkeypatch.delenv("CERTORBIT_ISSUANCE__WAIT")
    monkeypatch.setenv("CERTORBIT_ISSUANCE", '{"reuse_key": true}')
    assert "certorbit.toml: issuance.key_type: Input should be" in refusal(capsys)


def test_a_file_that_is_no_toml_or_cant_be_read_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "certorbit.toml").write_text("[issuance")
    assert "the settings file certorbit.toml is no TOML: " in refusal(capsys)
    other = here / "other.toml"
    other.write_bytes(b"\xff")
    monkeypatch.setenv("CERTORBIT_SETTINGS", str(other))
    assert f"the settings file {other} is no TOML: " in refusal(capsys)
