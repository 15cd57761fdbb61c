"""The only place that builds adapters and joins the parts. The CLI's commands start here."""

from certorbit.app.database import open_store
from certorbit.app.deploying import open_targets
from certorbit.app.ground import CLOCK, new_id
from certorbit.app.service import Service, open_service
from certorbit.app.serving import make_service_tls, watch_certificate

__all__ = [
    "CLOCK",
    "Service",
    "make_service_tls",
    "new_id",
    "open_service",
    "open_store",
    "open_targets",
    "watch_certificate",
]
