"""Says which settings are wrong in the words of whoever set them: the settings file's, or an environment variable's.

What pydantic reports is a path through the models. Where the value came from is found again: from a variable if one of
that name is set (it wins), else from the file. No message repeats a value: one of them may be a key.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from certorbit.settings import DEFAULT_FILE, Settings

Place = tuple[int | str, ...]
Models = Sequence[type[BaseModel]]
_FIELD: Final = re.compile(r'field "(\w+)"')


def name_file() -> str:
    """Return the settings file's name, as whoever set it wrote it."""
    return os.environ.get("CERTORBIT_SETTINGS", "") or DEFAULT_FILE


def describe_settings(error: ValidationError) -> str:
    """Return what is wrong with the settings, all of it on one line."""
    content = _read_file()
    wrong = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(_describe(item["loc"], item["type"], item["msg"], content) for item in wrong)


def describe_variable(error: SettingsError) -> str:
    """Return which variable is no JSON. The library's message has the setting's name, and its cause the value."""
    found = _FIELD.search(str(error))
    name = _as_variable([found[1]]) if found else "a variable CERTORBIT_…"
    return f"{name} is no JSON, as tables and lists in the environment are"


@dataclass(frozen=True, slots=True)
class _Found:
    """A place in the settings. place: without the names of variants, which nobody wrote. models: what it is in."""

    place: Place
    models: Models


def _describe(location: Place, kind: str, message: str, content: Mapping[str, Any]) -> str:
    """Return where it is and why it is wrong. location: empty for a rule about several settings."""
    why = message.removeprefix("Value error, ")
    if not location:
        return why
    found = _find(location)
    if kind == "union_tag_not_found":
        found, kind = _Found((*found.place, "type"), found.models), "missing"
    elif kind == "union_tag_invalid":
        kinds = ", ".join(sorted(name for model in found.models for name in _variants_of(model)))
        found, why = _Found((*found.place, "type"), found.models), f"there is no such type; there are {kinds}"
    is_missing = kind == "missing"
    depth = _find_variable(found.place, is_missing=is_missing)
    if depth is None and _is_in(found.place, content, is_missing=is_missing):
        name, shared = f"{name_file()}: {_as_path(found.place)}", ""
    else:
        # A variable that holds a whole table as JSON is named, and the rest is a path in it.
        depth = depth or len(found.place)
        rest = _as_path(found.place[depth:])
        name = _as_variable(found.place[:depth]) + (f": {rest}" if rest else "")
        shared = "" if rest else _as_variable((*found.place[:-1], ""))
    if is_missing:
        return f"{name} is missing"
    if kind == "extra_forbidden":
        return f"{name}: there is no such setting{_suggest(found, shared)}"
    return f"{name}: {why}"


def _suggest(found: _Found, shared: str) -> str:
    """Return the setting that may be meant. shared: the beginning of the variables' names; "": it is the file's."""
    fields = [name for model in found.models for name in model.model_fields]
    near = get_close_matches(str(found.place[-1]).lower(), fields, n=1, cutoff=0.7)
    if not near:
        return ""
    return f" (did you mean {shared + near[0].upper() if shared else near[0]}?)"


def _find(location: Place) -> _Found:
    """Walk the models along the location."""
    models: Models = [Settings]
    outer: Models = models
    place: list[int | str] = []
    for part in location:
        if len(models) > 1 and (chosen := [model for model in models if part in _variants_of(model)]):
            models = outer = chosen  # pydantic names the variant of a table that its `type` chose
            continue
        place.append(part)
        outer = models
        fields = [model.model_fields[part] for model in models if isinstance(part, str) and part in model.model_fields]
        if fields:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    return _Found(tuple(place), outer)


def _variants_of(model: type[BaseModel]) -> Sequence[str]:
    """Return what `type` is in a table of this model; none if it has no `type`."""
    kind = model.model_fields.get("type")
    return get_args(kind.annotation) if kind is not None else ()


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _find_variable(place: Place, *, is_missing: bool) -> int | None:
    """Return how much of the place is the name of the variable that set it; None: no variable did."""
    given = {name.upper(): value for name, value in os.environ.items() if value}
    if _as_variable(place) in given:
        return len(place)
    for depth in range(len(place) - 1, 0, -1):
        table = _read_json(given.get(_as_variable(place[:depth]), ""))
        if _is_in(place[depth:], table, is_missing=is_missing):
            return depth
    return None


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_in(place: Place, content: Any, *, is_missing: bool) -> bool:
    """Return whether the setting is there. is_missing: it can't be, so whether the table is that it belongs into."""
    here = content
    for part in place[:-1] if is_missing else place:
        try:
            here = here[part]
        except (LookupError, TypeError):
            return False
    return isinstance(here, dict) if is_missing else True


def _as_variable(place: Iterable[int | str]) -> str:
    return "CERTORBIT_" + "__".join(map(str, place)).upper()


def _as_path(place: Iterable[int | str]) -> str:
    """Return the place as TOML's readers write it: targets[0].socket."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _read_file() -> Mapping[str, Any]:
    try:
        return tomllib.loads(Path(name_file()).read_text())
    except (OSError, ValueError):  # a TOML error is a ValueError
        return {}
