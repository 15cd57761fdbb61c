"""The target: copies are Secrets of our own, and switching a listener is one write of the Secret that it refers to."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy, Endpoint, Listener, ListenerKey
from certorbit.ports.target import Finding
from certorbit.target_settings import KubernetesTargetSettings
from certorbit.target_settings.kubernetes import KubernetesListenerTable
from certorbit.target_settings.table import split_address
from certorbit.targets.kubernetes.access import check_access
from certorbit.targets.kubernetes.rest import (
    MANAGER,
    MERGE_PATCH,
    METADATA,
    METADATA_LIST,
    Conflict,
    KubernetesClient,
    quote_part,
)
from certorbit.targets.kubernetes.secrets import (
    FINGERPRINT,
    OWNER,
    ROLE,
    ROLE_COPY,
    ROLE_LISTENER,
    TLS_TYPE,
    SecretState,
    find_held,
    name_copy,
    read_secret,
    write_copy,
    write_listener,
)

log = structlog.get_logger(__name__)

KIND: Final = "kubernetes"
_MOST_TURNS: Final = 4  # somebody else writes the same Secret; after that the workflow tries again
_WRITER: Final = {"fieldManager": MANAGER}


class KubernetesTarget:
    """One cluster. A scope is a namespace; a handle is `<namespace>/<name of the copy's Secret>`."""

    def __init__(self, settings: KubernetesTargetSettings, client: KubernetesClient) -> None:
        self._settings = settings
        self._client = client
        self._tables = {self._key(table): table for table in settings.listeners}

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def provider(self) -> str:
        return "link11"

    def scope_of(self, listener: ListenerKey) -> str:
        table = self._tables.get(listener)
        return table.namespace if table else ""

    async def discover(self) -> Sequence[Listener]:
        return [await self.look(key) for key in sorted(self._tables)]

    async def look(self, listener: ListenerKey) -> Listener:
        table = self._table(listener)
        return self._show(listener, await self._find(table.namespace, table.secret))

    async def install(
        self,
        bundle: Bundle,
        *,
        scope: str,
        present: Copy | None,  # noqa: ARG002 - another version's Secret is left as it is
    ) -> Copy:
        name = name_copy(bundle)
        found = await self._find(scope, name)
        if found is None:
            body = write_copy(bundle, owner=self._settings.owner)
            try:
                created = await self._client.call("POST", _path(scope), query=_WRITER, body=body)
                found = read_secret(created)
                log.info("kubernetes.copy_created", target=self.name, namespace=scope, secret=name)
            except Conflict as conflict:  # made by a run before us, or by this one: its first answer was lost
                found = await self._find(scope, name)
                if found is None:
                    raise conflict.error from conflict
        if not found.is_of(self._settings.owner, role=ROLE_COPY) or found.fingerprint != bundle.facts.fingerprint:
            raise TargetRefused(
                f"Target {self.name}: the Secret {scope}/{name} exists and is not our copy. Delete it.",
                subject=self.name,
            )
        handle = f"{scope}/{name}"
        return Copy(handle=handle, link=handle)

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        """Put the copy in the place of the older one; beside another certificate there is no room in a Secret."""
        held = (await self.look(listener)).default
        if held == copy.handle:
            return
        if not held or held != instead_of:
            raise TargetFull(
                f"{listener}: a Secret takes one certificate. Make the certificate the default, or use one with more"
                " names.",
                subject=str(listener),
            )
        await self.set_default(listener, copy)

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        table = self._table(listener)
        material = await self._read_copy(copy.handle, listener=listener)
        turn = 0
        while True:
            try:
                await self._write(table, material, handle=copy.handle, listener=listener)
            except Conflict as conflict:
                turn += 1
                if turn >= _MOST_TURNS:
                    raise conflict.error from conflict
            else:
                return

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        if (await self.look(listener)).default == handle:
            raise TargetRefused(
                f"{listener}: the certificate is the only one of its Secret, which can't be without. Make another one"
                " the default.",
                subject=str(listener),
            )

    async def remove(self, handle: str) -> None:
        namespace, name = _split(handle)
        found = await self._find(namespace, name, accept=METADATA)
        if found is None:
            return
        if not found.is_of(self._settings.owner, role=ROLE_COPY):
            raise TargetRefused(
                f"Target {self.name}: the Secret {handle} is not a copy of ours; it is left.", subject=self.name
            )
        for key, table in self._tables.items():
            if table.namespace == namespace and (await self.look(key)).default == handle:
                raise TargetRefused(f"Target {self.name}: {handle} is used by {key}.", subject=self.name)
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": found.uid}}
        try:
            await self._client.call("DELETE", _path(namespace, name), body=body)
        except TargetGone:
            return
        except Conflict as conflict:  # another Secret has taken its name
            raise conflict.error from conflict
        log.info("kubernetes.copy_removed", target=self.name, namespace=namespace, secret=name)

    async def list_copies(self) -> Mapping[str, str]:
        query = {"labelSelector": f"{OWNER}={self._settings.owner},{ROLE}={ROLE_COPY}"}
        found: dict[str, str] = {}
        for namespace in self._namespaces:
            for item in await self._client.list(_path(namespace), query=query, accept=METADATA_LIST):
                secret = read_secret(item)
                found[f"{namespace}/{secret.name}"] = secret.annotations.get(FINGERPRINT, "")
        return found

    async def check(self) -> Sequence[Finding]:
        return await check_access(self, self._client, namespaces=self._namespaces)

    async def close(self) -> None:
        await self._client.close()

    @property
    def _namespaces(self) -> Sequence[str]:
        return sorted({table.namespace for table in self._tables.values()})

    async def _write(
        self, table: KubernetesListenerTable, material: SecretState, *, handle: str, listener: ListenerKey
    ) -> None:
        """Let the listener's Secret hold the copy. Raises Conflict if somebody else changed it since it was read."""
        owner = self._settings.owner
        present = await self._find(table.namespace, table.secret)
        if present is None:
            body: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "type": TLS_TYPE}
            body |= write_listener(material, handle=handle, owner=owner)
            body["metadata"]["name"] = table.secret
            await self._client.call("POST", _path(table.namespace), query=_WRITER, body=body)
        else:
            self._may_write(present, listener=listener)
            itself = f"{table.namespace}/{table.secret}"
            if find_held(present, owner=owner, itself=itself) == handle and present.material == material.material:
                return
            body = write_listener(material, handle=handle, owner=owner, resource_version=present.resource_version)
            await self._client.call(
                "PATCH", _path(table.namespace, table.secret), query=_WRITER, body=body, content_type=MERGE_PATCH
            )
        log.info("kubernetes.secret_written", target=self.name, listener=str(listener), copy=handle)

    def _may_write(self, present: SecretState, *, listener: ListenerKey) -> None:
        """Raise TargetRefused for a Secret that is somebody else's, or of a type that can't be changed."""
        if not present.is_of(self._settings.owner, role=ROLE_LISTENER) and not self._settings.adopt:
            raise TargetRefused(
                f"{listener}: the Secret {present.name} was made by somebody else. Set adopt = true to take it over.",
                subject=str(listener),
            )
        if present.type != TLS_TYPE:
            raise TargetRefused(
                f"{listener}: the Secret {present.name} is of type {present.type[:60]!r}, which can't be changed."
                f" Delete it, or make it one of type {TLS_TYPE}.",
                subject=str(listener),
            )

    async def _read_copy(self, handle: str, *, listener: ListenerKey) -> SecretState:
        found = await self._find(*_split(handle))
        if found is None or not found.is_of(self._settings.owner, role=ROLE_COPY):
            raise TargetGone(f"{listener}: the copy {handle} does not exist.", subject=str(listener))
        return found

    async def _find(self, namespace: str, name: str, *, accept: str = "application/json") -> SecretState | None:
        try:
            return read_secret(await self._client.call("GET", _path(namespace, name), accept=accept))
        except TargetGone:
            return None

    def _show(self, key: ListenerKey, secret: SecretState | None) -> Listener:
        table = self._table(key)
        addresses = table.addresses or (self._settings.host,)
        return Listener(
            key=key,
            provider=self.provider,
            kind=KIND,
            dns_name=self._settings.host,
            max_certificates=0,
            default=find_held(secret, owner=self._settings.owner, itself=f"{table.namespace}/{table.secret}"),
            certificates=(),
            endpoints=tuple(Endpoint(*split_address(address, table.port)) for address in addresses),
        )

    def _table(self, key: ListenerKey) -> KubernetesListenerTable:
        table = self._tables.get(key)
        if table is None:
            raise TargetGone(f"{key}: the settings have no such listener.", subject=str(key))
        return table

    def _key(self, table: KubernetesListenerTable) -> ListenerKey:
        settings = self._settings
        return ListenerKey(
            target=settings.name,
            region=settings.region,
            load_balancer=settings.shown_name,
            listener=table.name,
            port=table.port,
        )


def _split(handle: str) -> tuple[str, str]:
    namespace, _, name = handle.partition("/")
    return namespace, name


def _path(namespace: str, name: str = "") -> str:
    path = f"/api/v1/namespaces/{quote_part(namespace)}/secrets"
    return f"{path}/{quote_part(name)}" if name else path
