"""Which module makes which type of target. It is imported when a table of that type is there: SDKs are optional."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from certorbit.clock import Chance, Clock
from certorbit.errors import BadInput
from certorbit.ports.target import QuotaLedger, Shelf, Target
from certorbit.target_settings import TargetSettings

# type: (module with `make`, the extra whose packages it needs, "" for none)
TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "aws": ("certorbit.targets.aws", "aws"),
    "directory": ("certorbit.targets.directory", ""),
    "envoy": ("certorbit.targets.envoy", "envoy"),
    "gcp": ("certorbit.targets.gcp", "gcp"),
    "haproxy": ("certorbit.targets.haproxy", ""),
    "kubernetes": ("certorbit.targets.kubernetes", "kubernetes"),
    "nginx": ("certorbit.targets.nginx", ""),
    "webhook": ("certorbit.targets.webhook", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetParts:
    """What a target may work with. shelf: of this target alone."""

    clock: Clock
    chance: Chance
    quota: QuotaLedger
    shelf: Shelf


def make_target(settings: TargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table.

    Raises:
        BadInput: a package that it needs isn't installed.
    """
    module_name, extra = TYPES[settings.type]
    try:
        make: Callable[[Any, TargetParts], Target] = import_module(module_name).make
    except ImportError as error:
        if not extra:
            raise
        raise BadInput(
            f"targets: {settings.name!r} needs packages that are not installed ({error.name}); run"
            f" `pip install certorbit[{extra}]`.",
            subject="targets",
        ) from error
    return make(settings, parts)
