"""Sites: the server groups of configurations."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from certorbit.model.entry import ConfigID
from certorbit.model.site import ClientCertificateMode, Site, SiteID
from certorbit.storage.tables_deployment import sites
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Upsert

_PUT = Upsert(sites)
_IN_CONFIG = sites.c.config == sa.bindparam("wanted_config")
_BY_ID = sites.c.id == sa.bindparam("wanted_site")
_LIST = sa.select(sites).where(_IN_CONFIG).order_by(sites.c.id)
_FIND = sa.select(sites).where(_IN_CONFIG, _BY_ID)
_LIST_USING = _LIST.where(
    sa.or_(sites.c.ssl_certificate == sa.bindparam("entry"), sites.c.client_certificate == sa.bindparam("entry"))
)
_DELETE = sa.delete(sites).where(_IN_CONFIG, _BY_ID)


class SQLSites:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list(self, config: ConfigID) -> Sequence[Site]:
        return self._list(_LIST, {"wanted_config": config})

    def find(self, config: ConfigID, site: SiteID) -> Site | None:
        found = self._list(_FIND, {"wanted_config": config, "wanted_site": site})
        return found[0] if found else None

    def put(self, site: Site) -> None:
        _PUT.run(self._transaction, _values(site))

    def delete(self, config: ConfigID, site: SiteID) -> None:
        self._transaction.execute(_DELETE, {"wanted_config": config, "wanted_site": site})

    def list_using(self, config: ConfigID, entry_id: str) -> Sequence[Site]:
        # "" in a site's field means 'none'.
        return self._list(_LIST_USING, {"wanted_config": config, "entry": entry_id}) if entry_id else []

    def _list(self, statement: sa.Select[Any], parameters: Mapping[str, str]) -> Sequence[Site]:
        if not all(map(is_storable, parameters.values())):
            return []
        return [_site(row) for row in self._transaction.execute(statement, parameters)]


def _values(site: Site) -> Mapping[str, Any]:
    return {
        "config": site.config,
        "id": site.id,
        "name": site.name,
        "description": site.description,
        "server_names": site.server_names,
        "ssl_certificate": site.ssl_certificate,
        "client_certificate": site.client_certificate,
        "client_certificate_mode": site.client_certificate_mode.value,
        "security_policy": site.security_policy,
        "routing_profile": site.routing_profile,
        "proxy_template": site.proxy_template,
        "challenge_cookie_domain": site.challenge_cookie_domain,
        "mobile_application_group": site.mobile_application_group,
    }


def _site(row: sa.Row[Any]) -> Site:
    return Site(
        config=row.config,
        id=row.id,
        name=row.name,
        description=row.description,
        server_names=tuple(row.server_names),
        ssl_certificate=row.ssl_certificate,
        client_certificate=row.client_certificate,
        client_certificate_mode=ClientCertificateMode(row.client_certificate_mode),
        security_policy=row.security_policy,
        routing_profile=row.routing_profile,
        proxy_template=row.proxy_template,
        challenge_cookie_domain=row.challenge_cookie_domain,
        mobile_application_group=row.mobile_application_group,
    )
