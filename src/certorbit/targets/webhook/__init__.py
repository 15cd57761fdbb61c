"""An HTTP endpoint of the operator's own that puts certificates where they belong; docs/targets/webhook.md."""

import ssl

from certorbit.errors import BadInput
from certorbit.ports.target import Target
from certorbit.target_settings.webhook import WebhookTargetSettings
from certorbit.targets.registry import TargetParts
from certorbit.targets.webhook.endpoint import Endpoint
from certorbit.targets.webhook.target import WebhookTarget

__all__ = ["make"]


def make(settings: WebhookTargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table.

    Raises:
        BadInput: its `ca_bundle` can't be read.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_bundle or None)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(
            f"targets: {settings.name!r}: the ca_bundle {settings.ca_bundle} holds no certificates that can be read.",
            subject="targets",
        ) from error
    return WebhookTarget(settings, Endpoint(settings, context, clock=parts.clock, chance=parts.chance))
