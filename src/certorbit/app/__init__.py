"""The only place that builds adapters and joins the parts. The CLI's commands start here."""

from certorbit.app.deploying import open_targets
from certorbit.app.ground import CLOCK, new_id
from certorbit.app.service import Service, open_service, open_store

__all__ = ["CLOCK", "Service", "new_id", "open_service", "open_store", "open_targets"]
