"""A site: a server group of a configuration (contract.md, Around the certificates)."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NewType

from certorbit.model.entry import PLACEHOLDER, ConfigID

SiteID = NewType("SiteID", str)

DEFAULT_SITE = SiteID("__default__")
# Clients make ids of 12 hex digits; people give names. What stands in a path needs no quoting in any system.
SITE_ID_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"


class ClientCertificateMode(StrEnum):
    """Whether clients of the site show a certificate."""

    OFF = "off"
    ON = "on"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server group. Texts are kept as given, without blanks around them.

    server_names: in the order given. ssl_certificate, client_certificate: ids of entries of the same configuration;
    "": none. The other fields belong to products beside this one and are only kept.
    """

    config: ConfigID
    id: SiteID
    name: str
    description: str = ""
    server_names: tuple[str, ...] = ()
    ssl_certificate: str = ""
    client_certificate: str = ""
    client_certificate_mode: ClientCertificateMode = ClientCertificateMode.OFF
    security_policy: str = ""
    routing_profile: str = ""
    proxy_template: str = ""
    challenge_cookie_domain: str = ""
    mobile_application_group: str = ""

    def without(self, entry_id: str) -> "Site":
        """Return the server group as it is once that certificate is gone: it serves `placeholder` instead.

        Whether it still demands client certificates is for the caller to look at.
        """
        return replace(
            self,
            ssl_certificate=PLACEHOLDER if self.ssl_certificate == entry_id else self.ssl_certificate,
            client_certificate="" if self.client_certificate == entry_id else self.client_certificate,
        )


def default_site(config: ConfigID) -> Site:
    """Return the site that every configuration has until somebody changes it."""
    return Site(
        config=config,
        id=DEFAULT_SITE,
        name="default",
        description="What no other server group serves",
        server_names=("__default__",),
        ssl_certificate=PLACEHOLDER,
    )
