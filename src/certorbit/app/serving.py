"""Joins the service's own HTTPS."""

import ipaddress
import re
import socket
from datetime import timedelta
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from certorbit.app.ground import CHANCE, CLOCK
from certorbit.app.service import Service
from certorbit.model.identifiers import Identifier, IdentifierType
from certorbit.workflows.periodic import Periodic
from certorbit.workflows.service_tls import Serve, ServiceTLS

_HOST: Final = re.compile(r"(?=.{1,253}\Z)(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


def make_service_tls(service: Service, *, url: str) -> ServiceTLS | None:
    """Return what chooses the certificate to serve HTTPS with; None: the settings want plain HTTP.

    url: where the service listens; its host is one of the self-signed certificate's names.
    """
    settings = service.settings
    if not settings.tls.is_on:
        return None
    hosts = [urlsplit(text).hostname or "" for text in (settings.public_url, url)]
    return ServiceTLS(
        settings.tls,
        store=service.store,
        keyring=service.keyring,
        clock=CLOCK,
        names=_names([*hosts, socket.gethostname(), "localhost", "127.0.0.1"]),
    )


def watch_certificate(tls: ServiceTLS, *, seconds: float, serve: Serve) -> Periodic:
    """Return the look at whether there is a newer certificate, to be started. serve: takes what is new."""
    return Periodic("tls", partial(tls.look, serve), every=timedelta(seconds=seconds), clock=CLOCK, chance=CHANCE)


def _names(hosts: list[str]) -> list[Identifier]:
    """Return the hosts that can stand in a certificate, each once; a name of one label can, in a self-signed one."""
    names: list[Identifier] = []
    for host in hosts:
        try:
            names.append(Identifier(IdentifierType.IP, str(ipaddress.ip_address(host))))
        except ValueError:
            if _HOST.fullmatch(host.lower()):  # a machine's own name may be anything
                names.append(Identifier(IdentifierType.DNS, host.lower()))
    return list(dict.fromkeys(names))
