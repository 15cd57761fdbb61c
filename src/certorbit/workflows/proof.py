"""The proof: what handshakes with a listener must show, and what they showed (docs/proof.md)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256

from certorbit.clock import Chance, Clock
from certorbit.model.backoff import Poll
from certorbit.model.balancer import Listener
from certorbit.model.client_policy import ClientPolicy, PolicyMark
from certorbit.model.deployment import Handshake, Proof
from certorbit.model.entry import Version
from certorbit.model.site import ClientCertificateMode
from certorbit.pki.pem import read_certificates
from certorbit.ports.prober import Prober, Served

POLL: Final = Poll(first=0.1, longest=5.0)
MOST_KEPT: Final = 20  # handshakes in a stored proof: those that failed first
MOST_NAMED: Final = 3  # in a message
SAY_NO_BY_HTTP: Final = frozenset({"nginx"})  # kinds of listeners
WILDCARD_LABEL: Final = "certorbit-proof"  # stands for the asterisk; no host has this name


@dataclass(frozen=True, slots=True)
class Expected:
    """What a listener must serve.

    intermediates: fingerprints that must be sent beside the leaf, roots not counted.
    demands_clients: nobody may get in without a certificate of his own.
    """

    leaf: str
    intermediates: frozenset[str]
    names: tuple[str, ...]
    key_algorithm: str
    demands_clients: bool = False


def expect(version: Version, *, is_default: bool, policy: ClientPolicy | PolicyMark | None = None) -> Expected:
    """Return what must be served for a version. policy: what its clients are checked by; None: nothing is proven of it.

    Each DNS name is asked for by SNI, a wildcard by one name under it. IP addresses can't be asked for (RFC 6066 §3):
    they are covered where the certificate is the default, which is asked for without SNI too.
    """
    names = tuple(_name_under(name) for name in version.facts.san if _is_dns_name(name))
    return Expected(
        leaf=version.facts.fingerprint,
        intermediates=_read_intermediates(version.chain_pem),
        names=(*names, "") if is_default or not names else names,
        key_algorithm=version.facts.key_algorithm,
        demands_clients=policy is not None and policy.mode is ClientCertificateMode.ON,
    )


def judge(served: Sequence[Served], expected: Expected, *, at: datetime) -> Proof:
    """Return what the handshakes prove: all of them must show the leaf and its intermediates."""
    faults = [(one, fault) for one in served if (fault := _find_fault(one, expected))]
    failed = [one for one, _ in faults]
    kept = [*failed, *(one for one in served if one not in failed)][:MOST_KEPT]
    message = ""
    if not served:
        message = "No address of the listener is known, so nothing can be proven; give `addresses` in the settings."
    elif faults:
        shown = "; ".join(f"{_place(one)}: {fault}" for one, fault in faults[:MOST_NAMED])
        more = f" and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        message = f"{len(faults)} of {len(served)} handshakes did not show it: {shown}{more}."
    return Proof(
        at=at,
        is_served=not message,
        message=message,
        handshakes=tuple(
            Handshake(address=one.address, port=one.port, server_name=one.server_name, leaf=one.leaf, error=one.error)
            for one in kept
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """Asks a listener until it serves what it should, or until the grace time is over."""

    prober: Prober
    clock: Clock
    chance: Chance

    async def prove(self, listener: Listener, expected: Expected, *, grace_seconds: float) -> Proof:
        """Return the first good proof, or the last bad one."""
        ends_at = self.clock.now() + timedelta(seconds=grace_seconds)
        turn = 0
        while True:
            served = await self.prober.probe(listener.endpoints, expected.names, key_algorithm=expected.key_algorithm)
            now = self.clock.now()
            proof = judge(served, expected, at=now)
            if proof.is_served and expected.demands_clients:
                proof = await self._prove_refusal(listener, expected, proof)
            if proof.is_served or now >= ends_at or not served:
                return proof
            await self.clock.sleep(POLL.pause(turn, uniform=self.chance.between))
            turn += 1

    async def _prove_refusal(self, listener: Listener, expected: Expected, proof: Proof) -> Proof:
        """Return the proof, turned into a bad one if somebody without a client certificate gets in."""
        tried = await self.prober.try_without_certificate(
            listener.endpoints, expected.names, says_no_by_http=listener.kind in SAY_NO_BY_HTTP
        )
        open_doors = [one for one in tried if one.gets_in]
        if not open_doors:
            return proof
        first = open_doors[0]
        way = "with a session that was begun under no name" if first.by_session else "without a certificate"
        message = (
            f"{len(open_doors)} of {len(tried)} handshakes let a client in that has to show a certificate:"
            f" {_show_place(first.address, first.port, first.server_name)}: {way} (docs/mutual-tls.md)."
        )
        return replace(proof, is_served=False, message=message)


@lru_cache(maxsize=64)  # a version is proven on many listeners, one after the other
def _read_intermediates(chain_pem: str) -> frozenset[str]:
    """Return the fingerprints of the chain's certificates but for the leaf and roots."""
    return frozenset(
        certificate.fingerprint(SHA256()).hex()
        for certificate in read_certificates(chain_pem)[1:]
        if certificate.subject != certificate.issuer
    )


def _find_fault(one: Served, expected: Expected) -> str:
    if one.error:
        return one.error
    if one.leaf != expected.leaf:
        return f"another certificate is served ({one.leaf[:16]} instead of {expected.leaf[:16]})"
    if missing := expected.intermediates - set(one.chain):
        return f"the chain is sent without {len(missing)} of its intermediate certificates"
    return ""


def _place(one: Served) -> str:
    return _show_place(one.address, one.port, one.server_name)


def _show_place(address: str, port: int, server_name: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port} for {server_name or 'no name'}"


def _is_dns_name(name: str) -> bool:
    return not (":" in name or name.replace(".", "").isdigit())


def _name_under(name: str) -> str:
    return f"{WILDCARD_LABEL}.{name[2:]}" if name.startswith("*.") else name
