"""Write docs/settings.md from the fields of certorbit.settings (`make docs`); `--check` only says if it is stale.

tests/docs/test_settings_doc.py runs the check, so that the document can't tell other things than the code.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from certorbit.limit_settings import LimitOverride
from certorbit.publish_settings import BucketSettings
from certorbit.renewal_settings import WindowSettings
from certorbit.settings import ConfigurationSettings, IssuerSettings, Settings
from certorbit.solver_settings import DNSSolverSettings, HTTP01SolverSettings, SolverSettings
from certorbit.target_settings import TargetSettings
from certorbit.target_settings.table import ListenerTable, OwnTargetTable, TargetTable

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD = """\
# Settings

<!-- Made by scripts/settings_doc.py from src/certorbit/settings.py: change it there, then run `make docs`. -->

A setting comes from the environment (`CERTORBIT_…`), else from a TOML file, else from its default. The file is
`certorbit.toml` in the working directory if there is one; `CERTORBIT_SETTINGS` names another file, which must exist
then. An unknown name in the file stops the start with a message. A setting of a table, for example `wait` in
`[issuance]`, is written `CERTORBIT_ISSUANCE__WAIT` (two underscores) in the environment. An empty variable counts as
not set.

```toml
# certorbit.toml
database_url = "postgresql://certorbit:secret@db.internal/certorbit"

[issuance]
wait = 15
key_type = "ecdsa-p384"

[[issuers]]
name = "letsencrypt"
directory = "https://acme-v02.api.letsencrypt.org/directory"
contact = ["mailto:ops@example.org"]
```

Secrets (`database_url` with its password, `key_encryption_key`, `bootstrap_api_key`, the HMAC keys, and
what solvers and `[keyring]` sign in with) belong into the environment or into a file that only the service can read.

"""
SOLVER_TYPES: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(SolverSettings)[0])
}
TARGET_TYPES: dict[str, type[TargetTable]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(TargetSettings)[0])
}
SECTIONS = ("issuers", "configurations", "solvers", "targets")  # written below by hand
BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "more than"), Le: ("le", "at most"), Lt: ("lt", "less than")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the document is stale")
    text = render()
    if parser.parse_args().check:
        if not DOCUMENT.exists() or DOCUMENT.read_text() != text:
            print(f"{DOCUMENT} is stale: run `make docs`", file=sys.stderr)
            return 1
        return 0
    DOCUMENT.write_text(text)
    return 0


def render() -> str:
    """Return the whole document."""
    fields = Settings.model_fields
    tables = {name: part for name, field in fields.items() if (part := part_of(field)) is not None}
    top = {name: field for name, field in fields.items() if name not in {*tables, *SECTIONS}}
    sections = [HEAD, "## Top level\n\n", *table_of(top, prefix="CERTORBIT_")]
    for name, part in tables.items():
        sections += [f"\n## `[{name}]`\n\n", *table_of(part.model_fields, prefix=f"CERTORBIT_{name.upper()}__")]
        sections += optional_tables(name, part)
    sections += [
        "\n## `[[renewal.windows]]`\n\n",
        "One table per maintenance window ([how renewal decides](renewal.md)). In the environment the whole list\n",
        "is one JSON array, `CERTORBIT_RENEWAL__WINDOWS`.\n\n",
        *table_of(WindowSettings.model_fields, prefix=None),
        "\n## `[[limits.overrides]]`\n\n",
        "One table per limit that differs ([limits](limits.md)). In the environment the whole list is one JSON\n",
        "array, `CERTORBIT_LIMITS__OVERRIDES`.\n\n",
        *table_of(LimitOverride.model_fields, prefix=None),
        "\n## `[[issuers]]`\n\n",
        "One table per account at a CA; the first one issues. `CERTORBIT_ACME_DIRECTORY` and its siblings above\n",
        "are the shortcut for one issuer, which then comes first. With none at all the built-in CA issues. In\n",
        "the environment the whole list is one JSON array, `CERTORBIT_ISSUERS`.\n\n",
        *table_of(IssuerSettings.model_fields, prefix=None),
        "\n## `[configurations.<id>]`\n\n",
        "One table per configuration that has other issuers than all have, for example `[configurations.prod]`\n",
        "([several issuers](renewal.md#several-issuers)). In the environment all of them are one JSON object,\n",
        '`CERTORBIT_CONFIGURATIONS={"prod": {"issuers": ["zerossl", "letsencrypt"]}}`.\n\n',
        *table_of(ConfigurationSettings.model_fields, prefix=None),
        *solver_sections(),
        *target_sections(),
        "\n## `[[publish.buckets]]`\n\n",
        "One table per bucket that edge bundles may be written to ([publish](publish.md)). In the environment\n",
        "the whole list is one JSON array, `CERTORBIT_PUBLISH__BUCKETS`.\n\n",
        *table_of(BucketSettings.model_fields, prefix=None),
    ]
    return "".join(sections)


def optional_tables(name: str, part: type[BaseModel]) -> Iterator[str]:
    """Yield the tables within a table that may be left out."""
    for own, field in part.model_fields.items():
        for model in get_args(field.annotation) if get_origin(field.annotation) is UnionType else ():
            if isinstance(model, type) and issubclass(model, BaseModel):
                about = (model.__doc__ or "").partition(": ")[2].strip()
                yield f"\n### `[{name}.{own}]`\n\n{about[:1].upper()}{about[1:]}\n\n"
                yield from table_of(model.model_fields, prefix=f"CERTORBIT_{name.upper()}__{own.upper()}__")


def solver_sections() -> Iterator[str]:
    """Yield the tables of all solvers: what they have in common once, then what each type has of its own."""
    common = HTTP01SolverSettings.model_fields
    yield "\n## `[[solvers]]`\n\n"
    yield "One table per solver ([DNS-01 and wildcards](dns-01.md)): who proves control of which names. Where no\n"
    yield "table is of type `http-01`, HTTP-01 comes last for all names. In the environment the whole list is one\n"
    yield "JSON array, `CERTORBIT_SOLVERS`. All types have:\n\n"
    yield from table_of(
        {"type": FieldInfo(annotation=str, description=f"one of {', '.join(f'`{kind}`' for kind in SOLVER_TYPES)}")}
        | {name: field for name, field in common.items() if name != "type"},
        prefix=None,
    )
    yield "\nAll types but `http-01` have besides:\n\n"
    own = {name: field for name, field in DNSSolverSettings.model_fields.items() if name not in common}
    yield from table_of(own, prefix=None)
    for kind, model in SOLVER_TYPES.items():
        if fields := {n: f for n, f in model.model_fields.items() if n not in {*common, *own}}:
            yield f'\n### `type = "{kind}"`\n\n{(model.__doc__ or "").strip()}\n\n'
            yield from table_of(fields, prefix=None)


def target_sections() -> Iterator[str]:
    """Yield the tables of all targets: what all have, what those of the operator's own have, then each type's own."""
    common, own = TargetTable.model_fields, OwnTargetTable.model_fields
    own_types = [kind for kind, model in TARGET_TYPES.items() if issubclass(model, OwnTargetTable)]
    yield "\n## `[[targets]]`\n\n"
    yield "One table per account, process or folder that certificates are put on ([deployment](deployment.md)). A\n"
    yield "roll-out takes them in their order here. In the environment the whole list is one JSON array,\n"
    yield "`CERTORBIT_TARGETS`. All types have:\n\n"
    yield from table_of(
        {"type": FieldInfo(annotation=str, description=f"one of {', '.join(f'`{kind}`' for kind in TARGET_TYPES)}")}
        | common,
        prefix=None,
    )
    yield f"\n{', '.join(f'`{kind}`' for kind in own_types)} have besides:\n\n"
    yield from table_of({name: field for name, field in own.items() if name not in common}, prefix=None)
    yield "\nand `[[targets.listeners]]`, one table per listener, with:\n\n"
    yield from table_of(ListenerTable.model_fields, prefix=None)
    for kind, model in TARGET_TYPES.items():
        page = f"targets/{kind}.md"
        link = f" [Its page]({page})." if (DOCUMENT.parent / page).exists() else ""
        yield f'\n### Target `type = "{kind}"`\n\n{(model.__doc__ or "").strip()}{link}\n\n'
        known = {*own, "type", "listeners"} if kind in own_types else {*common, "type"}
        changed = {name for name in known & {*own} if is_other(model.model_fields.get(name), own.get(name))}
        yield from target_tables(model.model_fields, leave_out=known - changed)


def target_tables(fields: dict[str, FieldInfo], *, leave_out: set[str]) -> Iterator[str]:
    """Yield the table of a type's fields, then one for each field that is a table of its own or a list of them."""
    shown = {name: field for name, field in fields.items() if name not in leave_out}
    plain = {name: field for name, field in shown.items() if part_of(field) is None}
    if plain:
        yield from table_of(plain, prefix=None)
    for name, field in shown.items():
        if (part := part_of(field)) is not None:
            yield f"\n`[targets.{name}]`: {field.description}\n\n"
            yield from table_of(part.model_fields, prefix=None)
    table = next(iter(get_args(fields["listeners"].annotation)), None) if "listeners" in fields else None
    own = {n: f for n, f in table.model_fields.items() if n not in ListenerTable.model_fields} if table else {}
    if own:
        yield "\nEach `[[targets.listeners]]` has besides:\n\n"
        yield from table_of(own, prefix=None)


def is_other(field: FieldInfo | None, common: FieldInfo | None) -> bool:
    """Return whether a type says something else about a field than all types do."""
    return (
        field is not None
        and common is not None
        and (field.default, field.description)
        != (
            common.default,
            common.description,
        )
    )


def table_of(fields: dict[str, FieldInfo], *, prefix: str | None) -> Iterator[str]:
    """Yield the rows of one table. prefix: of the environment variables; None leaves their column out."""
    heads = ["Setting", *([] if prefix is None else ["Environment"]), "Default", "Meaning"]
    yield f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n"
    for name, field in fields.items():
        meaning = "; ".join([field.description or "", *limits_of(field)])
        cells = [
            f"`{field.alias or name}`",
            *([] if prefix is None else [f"`{prefix}{name.upper()}`"]),
            default_of(field),
            meaning,
        ]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def part_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a table of its own."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "see below"
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in ("", (), {}, None):
        return "none"
    if isinstance(value, float):
        return f"`{value:.3g}`"
    return f"`{written(value)}`" if isinstance(value, bool | tuple | dict) else f"`{value}`"


def written(value: Any) -> str:
    """Return a value as a TOML file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {written(part)}' for name, part in value.items())} }}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def limits_of(field: FieldInfo) -> Iterator[str]:
    """Yield what values are allowed, in words."""
    choices = list(choices_of(field.annotation))
    if choices:
        yield "one of " + ", ".join(f"`{choice}`" for choice in choices)
    for rule in field.metadata:
        if isinstance(rule, MinLen):
            yield "not empty" if rule.min_length == 1 else f"at least {rule.min_length} characters"
        if isinstance(rule, MaxLen):
            unit = "entries" if get_origin(field.annotation) in {tuple, dict} else "characters"
            yield f"at most {rule.max_length} {unit}"
        for kind, (attribute, words) in BOUNDS.items():
            if isinstance(rule, kind):
                yield f"{words} {getattr(rule, attribute)}"
        pattern = getattr(rule, "pattern", None)
        if pattern:
            yield f"of the form `{pattern}`"


def choices_of(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Annotated, UnionType):
        for part in get_args(annotation):
            yield from choices_of(part)


if __name__ == "__main__":
    sys.exit(main())
