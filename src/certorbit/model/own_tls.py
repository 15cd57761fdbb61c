"""What the service's own HTTPS (`[tls]`, docs/tls.md) takes from the certificates that it manages. Pure."""

from certorbit.model.entry import Entry, Side
from certorbit.tls_settings import TLSSettings, split_entry


def can_serve(entry: Entry) -> bool:
    """Return whether the service can serve HTTPS with the entry, whatever the settings name."""
    return entry.side is Side.SERVER and entry.current is not None and entry.current.sealed_key is not None


def can_check_clients(entry: Entry) -> bool:
    """Return whether the service can check its clients' certificates by the entry, whatever the settings name."""
    return entry.side is Side.CLIENT_CA and entry.current is not None


def is_served(entry: Entry, settings: TLSSettings) -> bool:
    """Return whether HTTPS is served with the entry wherever these settings hold."""
    return can_serve(entry) and _is_named(entry, settings.certificate)


def checks_clients(entry: Entry, settings: TLSSettings) -> bool:
    """Return whether clients of the service are checked by the entry wherever these settings hold."""
    is_asked = settings.client_certificates != "off"
    return is_asked and can_check_clients(entry) and _is_named(entry, settings.client_ca)


def _is_named(entry: Entry, named: str) -> bool:
    return (entry.config, entry.id) == split_entry(named)
