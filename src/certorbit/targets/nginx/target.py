"""nginx as a target in files whose listeners can check client certificates.

A policy goes the way of every change of files. Before it is loaded, what nginx itself shows of its configuration must
have all `server` blocks of the listener check clients by it: a block that doesn't would be a way around.
"""

from functools import partial

import structlog

from certorbit.clock import Clock
from certorbit.errors import BadMaterial, TargetRefused
from certorbit.model.balancer import ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.pki.pem import read_certificates
from certorbit.target_settings.nginx import NginxTargetSettings
from certorbit.targets.file_layout import Material, Place
from certorbit.targets.file_target import FileTarget
from certorbit.targets.holdings import ClientCheck, Holdings
from certorbit.targets.nginx.clients import find_gaps
from certorbit.targets.nginx.layout import NginxLayout
from certorbit.targets.nginx.reload import NginxReload

log = structlog.get_logger(__name__)


class NginxTarget(FileTarget):
    """`ports.target.Target` and `VerifiesListenerClients`."""

    def __init__(
        self, settings: NginxTargetSettings, *, layout: NginxLayout, reload: NginxReload, clock: Clock
    ) -> None:
        rooms = [(table, table.max_certificates if table.sni else 0) for table in settings.listeners]
        super().__init__(settings, rooms, kind=settings.type, layout=layout, activation=reload, clock=clock)
        self._files = layout
        self._reload = reload

    async def verify_listener_clients(self, listener: ListenerKey, policy: ClientPolicy | None) -> None:
        place = self._find_place(listener)
        if policy is not None:
            self._check_possible(place, policy)
        check = ClientCheck.of(policy) if policy is not None else None
        material = Material(
            are_there=lambda after: self._files.has_clients(place, after, policy),
            write=lambda: self._files.write_policy(place, policy) if policy is not None else None,
            matter=lambda _: True,
            confirm=partial(self._confirm, place) if policy is not None else None,
        )
        await self._change(place, partial(Holdings.check_clients, check=check), material=material)
        log.info(
            "nginx.clients_checked",
            target=self.name,
            listener=str(listener),
            mode=policy.mode if policy is not None else "off",
            bundle=policy.bundle if policy is not None else "",
        )

    def _check_possible(self, place: Place, policy: ClientPolicy) -> None:
        if not self._files.takes_policies(place):
            raise TargetRefused(
                f"Target {self.name}: {place.key} isn't set up to check clients. Write"
                f" `include {self._files.parts_of(place).clients};` into all of its `server` blocks, and"
                " `verifies_clients = true` into its [[targets.listeners]] table (docs/targets/nginx.md).",
                subject=str(place.key),
            )
        try:
            authorities = read_certificates(policy.ca_pem, subject=policy.bundle)
        except BadMaterial as error:
            raise TargetRefused(f"Target {self.name}: {error.message}", subject=policy.bundle) from error
        if all(authority.subject != authority.issuer for authority in authorities):
            raise TargetRefused(
                f"Target {self.name}: the bundle {policy.bundle!r} has no root (self-signed CA), and nginx accepts no"
                " client whose chain doesn't end at one: nobody would get in. Add it to the bundle.",
                subject=policy.bundle,
            )

    async def _confirm(self, place: Place) -> None:
        """Raise TargetRefused unless all `server` blocks of the listener include what clients are checked by."""
        gaps = find_gaps(await self._reload.read_configuration(), self._files.parts_of(place))
        if gaps:
            raise TargetRefused(
                f"Target {self.name}: {place.key} would not check all of its clients: {'; '.join(gaps)}.",
                subject=str(place.key),
            )
