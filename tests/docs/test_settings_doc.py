"""docs/settings.md says what the code says."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from certorbit.settings import ConfigurationSettings, InternalCASettings, IssuanceSettings, IssuerSettings, Settings
from certorbit.solver_settings import SolverSettings

ROOT = Path(__file__).resolve().parents[2]
SOLVERS = get_args(get_args(SolverSettings)[0])


@pytest.fixture(scope="module")
def settings_doc() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_doc", ROOT / "scripts" / "settings_doc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_document_is_what_the_script_makes(settings_doc: ModuleType) -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_doc.render(), "stale: run `make docs`"


@pytest.mark.parametrize(
    "model", [Settings, IssuanceSettings, ConfigurationSettings, InternalCASettings, IssuerSettings, *SOLVERS]
)
def test_every_setting_has_a_description_and_a_row(model: type, settings_doc: ModuleType) -> None:
    text = settings_doc.render()
    for name, field in model.model_fields.items():
        if settings_doc.part_of(field) is not None:
            assert f"## `[{name}]`" in text
        elif name == "configurations":
            assert "## `[configurations.<id>]`" in text
        elif model is Settings and name in {"issuers", "solvers"}:
            assert f"## `[[{name}]]`" in text
        else:
            assert field.description, f"{model.__name__}.{name} has no description"
            assert f"| `{name}` |" in text


def test_the_example_of_a_settings_file_is_accepted(
    settings_doc: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = settings_doc.render().split("```toml\n")[1].split("```")[0]
    (tmp_path / "certorbit.toml").write_text(example)
    monkeypatch.chdir(tmp_path)

    settings = Settings()

    assert settings.issuance.wait == 15
    assert [issuer.name for issuer in settings.all_issuers()] == ["letsencrypt"]


def test_the_examples_of_solvers_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "dns-01.md").read_text(), flags=re.DOTALL)
    assert len(examples) >= 5
    for example in examples:
        (tmp_path / "certorbit.toml").write_text(example)
        assert Settings().solvers
