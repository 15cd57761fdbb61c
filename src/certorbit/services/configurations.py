"""The operator's configurations and what is built into each."""

from collections.abc import Callable, Sequence
from datetime import datetime

from certorbit.errors import NotFound
from certorbit.model.entry import (
    PLACEHOLDER,
    ConfigID,
    Configuration,
    Entry,
    EntryUID,
    Side,
    Source,
)
from certorbit.model.material import Material
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import UnitOfWork
from certorbit.services.first_version import make_first_version

PROD = ConfigID("prod")


def list_configurations(tx: UnitOfWork) -> Sequence[Configuration]:
    """Return all configurations, by id."""
    return tx.configurations.list()


def get_configuration(tx: UnitOfWork, config: ConfigID) -> Configuration:
    """Return one configuration. Raises NotFound."""
    configuration = tx.configurations.find(config)
    if configuration is None:
        raise NotFound(f"There is no configuration {config[:80]!r}.", subject="config")
    return configuration


def lock_configuration(tx: UnitOfWork, config: ConfigID) -> Configuration:
    """Return one configuration and hold it until the transaction ends. Raises NotFound.

    Whoever changes what server groups and certificates say of each other holds it, so that none names what another
    one deletes meanwhile. Order: an entry's operation first, then its configuration.
    """
    configuration = tx.configurations.lock(config)
    if configuration is None:
        raise NotFound(f"There is no configuration {config[:80]!r}.", subject="config")
    return configuration


def ensure_built_in(
    tx: UnitOfWork,
    make_placeholder: Callable[[], Material],
    *,
    now: datetime,
    new_id: Callable[[], str],
    keyring: Keyring,
) -> None:
    """Create the configuration `prod` and its certificate `placeholder` where they are missing. Repeatable."""
    if tx.configurations.find(PROD) is None:
        tx.configurations.add(Configuration(id=PROD, description="Production", version=1, date=now))
    if tx.entries.find(PROD, PLACEHOLDER) is not None:
        return
    material = make_placeholder()
    uid = EntryUID(new_id())
    version = make_first_version(uid, material, Source.BUILT_IN, now=now, new_id=new_id, keyring=keyring)
    tx.entries.add(
        Entry(
            uid=uid,
            config=PROD,
            id=PLACEHOLDER,
            side=Side.SERVER,
            source=Source.BUILT_IN,
            le_auto_renew=False,
            le_auto_replace=False,
            identifiers=material.facts.san,
            provider_links=(),
            crl=(),
            input_digest="",
            uploaded=now,
            current=version,
        )
    )
