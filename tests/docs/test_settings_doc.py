"""docs/settings.md says what the code says."""

import importlib.util
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from certorbit.deployment_settings import DeploymentSettings
from certorbit.keyring_settings import (
    AWSKMSSettings,
    GCPKMSSettings,
    KeyringSettings,
    PKCS11Settings,
    TransitSettings,
)
from certorbit.outbound_settings import OutboundSettings
from certorbit.region_settings import RegionSettings
from certorbit.revocation_settings import RevocationSettings
from certorbit.settings import ConfigurationSettings, InternalCASettings, IssuanceSettings, IssuerSettings, Settings
from certorbit.solver_settings import SolverSettings
from certorbit.target_settings import TargetSettings
from certorbit.target_settings.directory import DirectoryFiles
from certorbit.target_settings.table import ListenerTable

ROOT = Path(__file__).resolve().parents[2]
SOLVERS = get_args(get_args(SolverSettings)[0])
TARGETS = get_args(get_args(TargetSettings)[0])
LISTENERS = [
    get_args(model.model_fields["listeners"].annotation)[0] for model in TARGETS if "listeners" in model.model_fields
]


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


MODELS = [
    Settings,
    IssuanceSettings,
    ConfigurationSettings,
    InternalCASettings,
    IssuerSettings,
    DeploymentSettings,
    RegionSettings,
    OutboundSettings,
    RevocationSettings,
    KeyringSettings,
    AWSKMSSettings,
    GCPKMSSettings,
    TransitSettings,
    PKCS11Settings,
    DirectoryFiles,
    *SOLVERS,
    *TARGETS,
    *LISTENERS,
]


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_has_a_description_and_a_row(model: type, settings_doc: ModuleType) -> None:
    text = settings_doc.render()
    for name, field in model.model_fields.items():
        if settings_doc.part_of(field) is not None:
            assert f"## `[{name}]`" in text or f"`[targets.{name}]`" in text
        elif name == "configurations":
            assert "## `[configurations.<id>]`" in text
        elif model is Settings and name in {"issuers", "solvers", "targets"}:
            assert f"## `[[{name}]]`" in text
        elif name == "listeners":
            assert "`[[targets.listeners]]`" in text
        else:
            assert field.description, f"{model.__name__}.{name} has no description"
            assert f"| `{name}` |" in text


def test_each_type_of_target_has_its_own_settings_under_its_own_heading(settings_doc: ModuleType) -> None:
    parts = settings_doc.render().split("\n### Target ")[1:]
    assert [part.splitlines()[0] for part in parts] == [f'`type = "{kind}"`' for kind in settings_doc.TARGET_TYPES]
    for part, model in zip(parts, settings_doc.TARGET_TYPES.values(), strict=True):
        fields = set(model.model_fields) - {"type", "listeners"} - set(settings_doc.OwnTargetTable.model_fields)
        assert {name for name in fields if f"`{name}` |" not in part and f"[targets.{name}]" not in part} == set()
        listener = next(
            (get_args(field.annotation)[0] for name, field in model.model_fields.items() if name == "listeners"), None
        )
        own = set(listener.model_fields) - set(ListenerTable.model_fields) if listener else set()
        assert {name for name in own if f"| `{name}` |" not in part} == set()


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


TARGET_PAGES = [ROOT / "README.md", ROOT / "docs" / "deployment.md", *sorted((ROOT / "docs" / "targets").glob("*.md"))]


def test_the_example_of_signing_in_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "sign-in.md").read_text(), flags=re.DOTALL)
    (tmp_path / "certorbit.toml").write_text(example)
    assert Settings().oidc.roles["platform-admins"] == "admin"


@pytest.mark.parametrize("page", TARGET_PAGES, ids=lambda page: page.name)
def test_the_examples_of_targets_are_accepted(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^( *)```toml\n(.*?)^\1```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert found
    whole = ""
    for _, indented in found:
        example = textwrap.dedent(indented)
        if example.startswith("[[targets."):  # goes on with the one before
            example = whole + example
        whole = example
        (tmp_path / "certorbit.toml").write_text(example)
        assert ("[[targets]]" in example) == bool(Settings().targets)


def test_every_type_of_target_has_a_page(settings_doc: ModuleType) -> None:
    pages = {page.stem for page in TARGET_PAGES if page.parent.name == "targets"}
    assert pages == set(settings_doc.TARGET_TYPES)
