"""States of certificates and server groups as JSON values, for the change history (`model/change.py`).

A certificate's state holds no chain and no key: which version was current is enough to go back to it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from certorbit.model.change import Change, ChangeKind
from certorbit.model.client_policy import mark_to_json
from certorbit.model.deployment import Attachment
from certorbit.model.entry import ConfigID, Entry, ProviderLink
from certorbit.model.site import ClientCertificateMode, Site, SiteID

SERVICE = "certorbit"  # who made a change that no client asked for


def entry_state(entry: Entry) -> dict[str, Any]:
    """Return what clients can change of an entry, and what tells it from another one."""
    version = entry.current
    return {
        "side": entry.side.value,
        "source": entry.source.value,
        "le_auto_renew": entry.le_auto_renew,
        "le_auto_replace": entry.le_auto_replace,
        "identifiers": list(entry.identifiers),
        "version": version.id if version else None,
        "fingerprint": version.facts.fingerprint if version else None,
        "provider_links": [_link_state(link) for link in entry.provider_links],
    }


def site_state(site: Site) -> dict[str, Any]:
    """Return all fields of a server group but its configuration and id, which the change itself names."""
    return {
        "name": site.name,
        "description": site.description,
        "server_names": list(site.server_names),
        "security_policy": site.security_policy,
        "routing_profile": site.routing_profile,
        "proxy_template": site.proxy_template,
        "challenge_cookie_domain": site.challenge_cookie_domain,
        "ssl_certificate": site.ssl_certificate,
        "client_certificate": site.client_certificate,
        "client_certificate_mode": site.client_certificate_mode.value,
        "mobile_application_group": site.mobile_application_group,
    }


def site_from_state(config: ConfigID, site_id: str, state: Mapping[str, Any]) -> Site:
    """Return the server group that `site_state` wrote."""
    return Site(
        config=config,
        id=SiteID(site_id),
        name=state["name"],
        description=state["description"],
        server_names=tuple(state["server_names"]),
        security_policy=state["security_policy"],
        routing_profile=state["routing_profile"],
        proxy_template=state["proxy_template"],
        challenge_cookie_domain=state["challenge_cookie_domain"],
        ssl_certificate=state["ssl_certificate"],
        client_certificate=state["client_certificate"],
        client_certificate_mode=ClientCertificateMode(state["client_certificate_mode"]),
        mobile_application_group=state["mobile_application_group"],
    )


def change_of_entry(before: Entry | None, after: Entry | None) -> Change:
    """Return the change from one state of an entry to another. None: it is not there; not both."""
    entry = after or before
    assert entry is not None
    return Change(
        ChangeKind.CERTIFICATE,
        entry.id,
        entry_state(before) if before else None,
        entry_state(after) if after else None,
    )


def change_of_site(before: Site | None, after: Site | None) -> Change:
    """Return the change from one state of a server group to another. None: it is not there; not both."""
    site = after or before
    assert site is not None
    return Change(
        ChangeKind.SERVER_GROUP,
        site.id,
        site_state(before) if before else None,
        site_state(after) if after else None,
    )


def _link_state(link: ProviderLink) -> dict[str, str]:
    return {"link": link.link, "provider": link.provider, "region": link.region}


def attachment_state(attachment: Attachment) -> dict[str, Any]:
    """Return an attachment as a configuration's history keeps it; without "client_policy" where nobody is checked."""
    mark = mark_to_json(attachment.client_policy)
    return {
        **asdict(attachment.listener),
        "certificate": attachment.entry_id,
        "is_default": attachment.is_default,
        **({"client_policy": mark} if mark is not None else {}),
    }


def change_of_attachment(before: Attachment | None, after: Attachment | None) -> Change:
    """Return the change of a certificate's place on a listener; None: it has none there.

    Raises:
        ValueError: both are None.
    """
    attachment = after or before
    if attachment is None:
        raise ValueError("an attachment can't change from nothing to nothing")
    return Change(
        ChangeKind.ATTACHMENT,
        f"{attachment.listener} {attachment.entry_id}",
        attachment_state(before) if before else None,
        attachment_state(after) if after else None,
    )
