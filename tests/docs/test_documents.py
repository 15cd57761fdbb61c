"""What the documents name exists: linked files, settings, make targets; decision records are numbered."""

import re
from pathlib import Path
from typing import get_args

import pytest

from certorbit.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
RECORDS = sorted(ROOT.glob("docs/decisions/*.md"))


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_linked_file_exists(document: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", document.read_text())  # a pattern may look like a link
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_named_setting_exists(document: Path) -> None:
    known = {"CERTORBIT_SETTINGS", "CERTORBIT_URL", "CERTORBIT_API_KEY"}  # the last two: cli/operator.py
    known |= {"CERTORBIT_CA_FILE", "CERTORBIT_FINGERPRINT"}  # cli/main.py
    known.add("CERTORBIT_BACKUP_PASSPHRASE")  # cli/backup.py
    for name, field in Settings.model_fields.items():
        variable = f"CERTORBIT_{name.upper()}"
        known.add(variable)
        for part, own in getattr(field.annotation, "model_fields", {}).items():
            known.add(f"{variable}__{part.upper()}")
            for table in get_args(own.annotation):  # a table within a table that may be left out
                fields = getattr(table, "model_fields", {})
                known |= {f"{variable}__{part.upper()}__{name_of_field.upper()}" for name_of_field in fields}
    named = set(re.findall(r"CERTORBIT_[A-Z0-9_]*[A-Z0-9]", document.read_text()))
    assert named - known == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_named_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^ *\$? ?)make ([a-z-]+)", document.read_text(), flags=re.MULTILINE))
    assert named - targets == set()


def test_every_make_target_is_explained_in_make_help() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", text, flags=re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*## ", text, flags=re.MULTILINE))
    assert targets == explained
    assert targets >= {"setup", "demo", "test", "check", "bench", "bench-issuance", "bench-api", "lock", "clean"}


@pytest.mark.parametrize("record", RECORDS, ids=ids)
def test_a_decision_record_has_its_number_in_name_and_title(record: Path) -> None:
    number = record.name[:4]
    assert number.isdecimal()
    assert record.read_text().startswith(f"# {number} ")


def test_locks_hold_hashes_and_no_addresses() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text()
        assert "://" not in text, lock.name
        pins = re.split(r"\n(?=\S)", text.strip())
        assert [pin.split()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == [], lock.name


def test_both_locks_agree() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), flags=re.MULTILINE))

    runtime, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert "setuptools" in runtime
    assert {name: dev.get(name) for name in runtime} == runtime
