"""A target in memory, with the faults that it is told to have; and a prober that sees what it serves.

A stand-in for the roll-out's own tests, where every call must be able to fail or to be the last one of a process. The
real targets are in tests/targets.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.hashes import SHA256

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy, Endpoint, Listener, ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.served import Admission, Served
from certorbit.model.site import ClientCertificateMode
from certorbit.pki.pem import read_certificates
from certorbit.ports.target import Finding, Grade

FOREIGN = "somebody-else's"


@dataclass
class HeldBundle:
    """A copy: what it holds, and the entry it is of."""

    entry: str
    scope: str
    version: str
    fingerprint: str
    chain: tuple[str, ...]
    names: tuple[str, ...]


@dataclass
class FakeTarget:
    """Listeners and copies in plain dictionaries.

    in_place: a new version keeps its copy's handle. shared: all listeners have one store (as a cloud's region has).
    meanwhile: what somebody else does while a copy is being installed.
    before, after: called with (method, listener or scope or handle) around each call; they may raise.
    """

    name: str = "edge"
    provider: str = "link11"
    in_place: bool = True
    shared: bool = False
    room: int = 25
    listeners: dict[ListenerKey, Listener] = field(default_factory=dict)
    copies: dict[str, HeldBundle] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    meanwhile: Callable[[], Awaitable[None]] | None = None
    before: Callable[[str, str], None] = lambda _method, _place: None
    after: Callable[[str, str], None] = lambda _method, _place: None

    def add_listener(
        self, name: str, *, port: int = 443, default: str = FOREIGN, room: int | None = None
    ) -> ListenerKey:
        key = ListenerKey(self.name, "", f"{self.name}-lb", name, port)
        self.listeners[key] = Listener(
            key=key,
            provider=self.provider,
            kind="fake",
            dns_name="",
            max_certificates=self.room if room is None else room,
            default=default,
            certificates=(),
            endpoints=(Endpoint(name, port),),
        )
        return key

    def scope_of(self, listener: ListenerKey) -> str:
        return "all" if self.shared else listener.listener

    async def discover(self) -> Sequence[Listener]:
        with self._call("discover", ""):
            return [self.listeners[key] for key in sorted(self.listeners)]

    async def look(self, listener: ListenerKey) -> Listener:
        with self._call("look", listener.listener):
            return self._get(listener)

    async def install(self, bundle: Bundle, *, scope: str, present: Copy | None) -> Copy:
        with self._call("install", scope):
            if self.meanwhile is not None:
                await self.meanwhile()
            handle = f"{scope}/{bundle.entry_id}" if self.in_place else f"{scope}/{bundle.entry_id}@{bundle.version}"
            self.copies[handle] = HeldBundle(
                entry=bundle.entry_uid,
                scope=scope,
                version=bundle.version,
                fingerprint=bundle.facts.fingerprint,
                chain=tuple(_fingerprints(bundle.chain_pem)),
                names=bundle.facts.san,
            )
            return Copy(handle=handle, link=f"fake://{self.name}/{scope}/{bundle.entry_id}")

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        with self._call("attach", listener.listener):
            now = self._get(listener)
            self._check_copy(copy.handle)
            default = copy.handle if instead_of and now.default == instead_of else now.default
            others = [handle for handle in now.certificates if handle not in {copy.handle, instead_of}]
            if default != copy.handle:
                others.append(copy.handle)
            if len(others) > now.max_certificates:
                raise TargetFull(f"{listener} is full.", subject=str(listener))
            self.listeners[listener] = replace(now, default=default, certificates=tuple(others))

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        with self._call("set_default", listener.listener):
            now = self._get(listener)
            self._check_copy(copy.handle)
            others = tuple(handle for handle in now.certificates if handle != copy.handle)
            self.listeners[listener] = replace(now, default=copy.handle, certificates=others)

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        with self._call("detach", listener.listener):
            now = self._get(listener)
            if now.default == handle:
                raise TargetRefused(f"{handle} is the default of {listener}.", subject=str(listener))
            others = tuple(one for one in now.certificates if one != handle)
            self.listeners[listener] = replace(now, certificates=others)

    async def remove(self, handle: str) -> None:
        with self._call("remove", handle):
            if any(listener.holds(handle) for listener in self.listeners.values()):
                raise TargetRefused(f"{handle} is in use.", subject=handle)
            self.copies.pop(handle, None)

    async def list_copies(self) -> Mapping[str, str]:
        return {handle: copy.fingerprint for handle, copy in self.copies.items()}

    async def check(self) -> Sequence[Finding]:
        return [Finding("reach", Grade.OK, "It is in memory.")]

    async def close(self) -> None:
        return

    def serve(self, listener: str, server_name: str) -> tuple[str, ...]:
        """Return the chain that the listener sends for a name: the copy that has it, else the default."""
        found = next(one for one in self.listeners.values() if one.key.listener == listener)
        for handle in (*found.certificates, found.default):
            copy = self.copies.get(handle)
            if copy is not None and server_name in copy.names:
                return copy.chain
        default = self.copies.get(found.default)
        return default.chain if default else ("00" * 32,)

    def _get(self, key: ListenerKey) -> Listener:
        if key not in self.listeners:
            raise TargetGone(f"There is no listener {key}.", subject=str(key))
        return self.listeners[key]

    def _check_copy(self, handle: str) -> None:
        if handle not in self.copies and handle != FOREIGN:
            raise TargetGone(f"There is no copy {handle}.", subject=handle)

    def _call(self, method: str, place: str) -> "_Call":
        return _Call(self, method, place)


@dataclass
class _Call:
    """One call: noted, with what the target was told to do before and after it."""

    target: FakeTarget
    method: str
    place: str

    def __enter__(self) -> None:
        self.target.calls.append((self.method, self.place))
        self.target.before(self.method, self.place)

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        if kind is None:
            self.target.after(self.method, self.place)


@dataclass
class VerifyingTarget(FakeTarget):
    """A fake target that can check client certificates. policies: by listener and handle.

    admits: listeners that let everybody in, whatever the policy says.
    """

    policies: dict[tuple[ListenerKey, str], ClientPolicy] = field(default_factory=dict)
    admits: set[str] = field(default_factory=set)

    async def verify_clients(self, listener: ListenerKey, copy: Copy, policy: ClientPolicy | None) -> None:
        with self._call("verify_clients", listener.listener):
            self._get(listener)
            if policy is None:
                self.policies.pop((listener, copy.handle), None)
            else:
                self.policies[listener, copy.handle] = policy

    async def remove(self, handle: str) -> None:
        await super().remove(handle)
        self.policies = {key: policy for key, policy in self.policies.items() if key[1] != handle}

    def policy_of(self, listener: str, server_name: str) -> ClientPolicy | None:
        """Return what clients who ask the listener for a name are checked by."""
        found = next(one for one in self.listeners.values() if one.key.listener == listener)
        for handle in (*found.certificates, found.default):
            copy = self.copies.get(handle)
            if copy is not None and server_name in copy.names:
                return self.policies.get((found.key, handle))
        return self.policies.get((found.key, found.default))


@dataclass
class ListenerVerifyingTarget(FakeTarget):
    """A fake target whose listeners check client certificates for all that they serve. policies: by listener.

    admits: as in `VerifyingTarget`.
    """

    policies: dict[ListenerKey, ClientPolicy] = field(default_factory=dict)
    admits: set[str] = field(default_factory=set)

    async def verify_listener_clients(self, listener: ListenerKey, policy: ClientPolicy | None) -> None:
        with self._call("verify_clients", listener.listener):
            self._get(listener)
            if policy is None:
                self.policies.pop(listener, None)
            else:
                self.policies[listener] = policy

    def policy_of(self, listener: str, _server_name: str) -> ClientPolicy | None:
        """Return what clients of the listener are checked by."""
        return next((policy for key, policy in self.policies.items() if key.listener == listener), None)


@dataclass
class FakeProber:
    """Sees what fake targets serve.

    errors: why no handshake with a listener succeeds. bad_leaves: (listener, fingerprint) of what is never served.
    """

    targets: Sequence[FakeTarget]
    bad_leaves: set[tuple[str, str]] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    probes: int = 0

    async def probe(
        self, endpoints: Sequence[Endpoint], server_names: Sequence[str], *, key_algorithm: str
    ) -> Sequence[Served]:
        self.probes += 1
        return [self._see(endpoint, name) for endpoint in endpoints for name in server_names]

    async def try_without_certificate(
        self, endpoints: Sequence[Endpoint], server_names: Sequence[str], *, says_no_by_http: bool = False
    ) -> Sequence[Admission]:
        return [
            Admission(address="192.0.2.1", port=endpoint.port, server_name=name, gets_in=self._gets_in(endpoint, name))
            for endpoint in endpoints
            for name in server_names
        ]

    def _gets_in(self, endpoint: Endpoint, name: str) -> bool:
        target = next(t for t in self.targets if any(k.listener == endpoint.host for k in t.listeners))
        if not isinstance(target, VerifyingTarget | ListenerVerifyingTarget) or endpoint.host in target.admits:
            return True
        policy = target.policy_of(endpoint.host, name)
        return policy is None or policy.mode is not ClientCertificateMode.ON

    def _see(self, endpoint: Endpoint, name: str) -> Served:
        error = self.errors.get(endpoint.host, "")
        chain: tuple[str, ...] = ()
        if not error:
            target = next(t for t in self.targets if any(k.listener == endpoint.host for k in t.listeners))
            chain = target.serve(endpoint.host, name)
            if (endpoint.host, chain[0]) in self.bad_leaves:
                chain = ("ff" * 32,)
        return Served(address="192.0.2.1", port=endpoint.port, server_name=name, chain=chain, error=error)


def _fingerprints(chain_pem: str) -> list[str]:
    return [certificate.fingerprint(SHA256()).hex() for certificate in read_certificates(chain_pem)]
