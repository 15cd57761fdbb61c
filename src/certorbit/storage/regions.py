"""Which datacenter serves which city, by load balancer."""

from collections.abc import Mapping

import sqlalchemy as sa

from certorbit.storage.tables_deployment import regions
from certorbit.storage.transaction import Transaction
from certorbit.storage.upserts import Upsert

_LIST = sa.select(regions).order_by(regions.c.load_balancer)
_PUT = Upsert(regions)


class SQLRegions:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list(self) -> Mapping[str, Mapping[str, str]]:
        return {row.load_balancer: row.datacenters for row in self._transaction.execute(_LIST)}

    def put(self, load_balancer: str, regions: Mapping[str, str]) -> None:
        _PUT.run(self._transaction, {"load_balancer": load_balancer, "datacenters": dict(regions)})
