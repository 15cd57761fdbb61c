"""Writes a certorbit.toml with `[[targets]]` and other tables, for services that run as processes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr


def write_settings(path: Path, targets: Sequence[BaseModel], **tables: Mapping[str, object]) -> Path:
    """Write the file and return its path. tables: further tables by name (`deployment={"tries": 1}`)."""
    lines: list[str] = []
    for name, fields in tables.items():
        lines += [f"[{name}]", *_lines(fields)]
    for target in targets:
        lines += _target_lines(target)
    path.write_text("\n".join(lines) + "\n")
    return path


def _target_lines(target: BaseModel) -> list[str]:
    """Return one `[[targets]]` table. What has its default value is left out, as people do."""
    fields: dict[str, Any] = {"type": target.type} | target.model_dump(exclude_defaults=True)  # type: ignore[attr-defined]
    listeners = fields.pop("listeners", ())
    lines = ["[[targets]]", *_lines(fields)]
    for listener in listeners:
        lines += ["[[targets.listeners]]", *_lines(listener)]
    return lines


def _lines(fields: Mapping[str, object]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in fields.items()]


def _value(value: object) -> str:
    """Return a TOML value: JSON's texts, numbers, true and false are TOML's too."""
    if isinstance(value, SecretStr):
        return json.dumps(value.get_secret_value())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(str(name))} = {_value(one)}' for name, one in value.items())}}}"
    return json.dumps(value)
