"""Dynamic updates (RFC 2136) signed with TSIG (RFC 8945).

An update of one value is atomic at the name server, so any number of writers may work on one name.
"""

import asyncio
import socket
from functools import partial
from typing import Final

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.tsig
import dns.update

from certorbit.clock import Chance, Clock
from certorbit.net.tries import Passing
from certorbit.solver_settings import RFC2136SolverSettings, split_server
from certorbit.solvers.dns.tries import call_again, failure

KIND: Final = "rfc2136"
CALL_SECONDS: Final = 10.0

_KEY_HINT: Final = "Compare the solver's key_name, key_secret and key_algorithm with the key of the name server."
_POLICY_HINT: Final = "Let the key update TXT records of this zone (BIND: update-policy), and name the primary server."
_REACH_HINT: Final = "Check the solver's server, its port, and that updates over the chosen transport reach it."
_RETRIED: Final = frozenset({dns.rcode.SERVFAIL})


class RFC2136Writer:
    """Writes at one primary name server."""

    def __init__(self, settings: RFC2136SolverSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._key: dns.tsig.Key | None = None
        if settings.key_name:
            self._key = dns.tsig.Key(
                dns.name.from_text(settings.key_name), settings.key_secret.get_secret_value(), settings.key_algorithm
            )

    @property
    def kind(self) -> str:
        return KIND

    async def add_txt(self, name: str, value: str, *, zone: str) -> str:
        update = self._update(zone)
        # RFC 2136 §3.4.2.2: a record that is there already is only given the new TTL.
        update.add(_absolute(name), self._settings.ttl, "TXT", f'"{value}"')
        await self._send(update, name=name, zone=zone)
        return ""

    async def wait_applied(self, reference: str) -> None:
        """Return at once: an update that was answered is in the primary's zone."""

    async def remove_txt(self, name: str, value: str, *, zone: str) -> None:
        update = self._update(zone)
        # RFC 2136 §2.5.4: this one record; none of that value is no error.
        update.delete(_absolute(name), "TXT", f'"{value}"')
        await self._send(update, name=name, zone=zone)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _update(self, zone: str) -> dns.update.UpdateMessage:
        update = dns.update.UpdateMessage(_absolute(zone))
        if self._key is not None:
            update.use_tsig(self._key)
        return update

    async def _send(self, update: dns.update.UpdateMessage, *, name: str, zone: str) -> None:
        send = partial(self._send_once, update, zone=zone)
        await call_again(send, kind=KIND, name=name, clock=self._clock, chance=self._chance)

    async def _send_once(self, update: dns.update.UpdateMessage, *, zone: str) -> None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await self._exchange(update)
        except dns.tsig.PeerError as error:  # the server's word on our signature, e.g. BADKEY, BADSIG, BADTIME
            hint = "Set both clocks by NTP." if isinstance(error, dns.tsig.PeerBadTime) else _KEY_HINT
            raise failure(
                KIND, f"{self._settings.server} refuses the TSIG key: {error}", zone=zone, hint=hint
            ) from error
        except (dns.tsig.BadSignature, dns.tsig.BadKey, dns.message.UnknownTSIGKey, dns.tsig.BadTime) as error:
            reason = f"the answer of {self._settings.server} is not signed with our key: {error}"
            raise failure(KIND, reason, zone=zone, hint=_KEY_HINT) from error
        except (dns.exception.DNSException, OSError, EOFError) as error:
            reason = f"{self._settings.server} doesn't answer: {str(error).rstrip('.') or type(error).__name__}"
            raise Passing(failure(KIND, reason, zone=zone, hint=_REACH_HINT)) from error
        if answer.rcode() == dns.rcode.NOERROR:
            return
        refused = failure(
            KIND,
            f"{self._settings.server} answers {dns.rcode.to_text(answer.rcode())}",
            zone=zone,
            hint=_POLICY_HINT,
        )
        raise Passing(refused) if answer.rcode() in _RETRIED else refused

    async def _exchange(self, update: dns.update.UpdateMessage) -> dns.message.Message:
        host, port = split_server(self._settings.server)
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        address = str(found[0][4][0])
        send = dns.asyncquery.tcp if self._settings.transport == "tcp" else dns.asyncquery.udp
        return await send(update, address, port=port, timeout=CALL_SECONDS)


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name, dns.name.root)
