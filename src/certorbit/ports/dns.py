"""A DNS provider, or a name server: TXT values are added to a zone and taken away again, one at a time.

Values at one name belong to many: the apex and the wildcard of a domain share `_acme-challenge.<domain>`, other
clients may write there too. So a writer appends and removes single values and never replaces or deletes what it
wasn't told of.
"""

from typing import Protocol


class DNSZoneWriter(Protocol):
    """One account at one provider.

    Callers hold a lock per name within the process. Between processes the writer itself has to be safe: each call is
    one atomic change at the provider, or a compare-and-swap that is tried again. A writer whose provider can do
    neither says so in docs/dns-01.md.

    Names and zones are absolute, in lower case, as A-labels, without the root's dot. Values are base64url.
    """

    @property
    def kind(self) -> str:
        """The solver's type in the settings, for messages and logs."""
        ...

    async def add_txt(self, name: str, value: str, *, zone: str) -> str:
        """Add one value to the TXT records of a name; all others stay. Harmless if it is there already.

        Returns as soon as the provider has accepted it, with the provider's reference of the change, "" if it gives
        none. Bounded in time; temporary failures are tried again inside. If the caller dies during the call, the
        value may be there or not; adding or removing it again is right in both cases.

        Raises:
            SolverFailed: the provider did not answer, or refused; the message says what to do.
        """
        ...

    async def wait_applied(self, reference: str) -> None:
        """Return when the provider says that the change is on all its servers; at once if it never says so.

        Bounded in time. The caller checks the name servers itself, or waits for a while, afterwards.

        Raises:
            SolverFailed: it was not there in time.
        """
        ...

    async def remove_txt(self, name: str, value: str, *, zone: str) -> None:
        """Remove this one value; all others stay. Harmless if it is gone.

        Raises:
            SolverFailed: as for `add_txt`; the value may still be there.
        """
        ...

    async def close(self) -> None:
        """Release connections; the writer is not used afterwards."""
        ...
