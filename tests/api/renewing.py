"""An API whose certificates are renewed: two issuers that revoke, and ways to let things happen in its store."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from api.server import API, FakeIssuer, run_api
from certorbit.errors import CertorbitError
from certorbit.limit_settings import LimitOverride, LimitsSettings
from certorbit.model.entry import ConfigID, EntryID
from certorbit.model.operation import OperationID, OperationState, Problem
from certorbit.model.renewal import RenewalInfo
from certorbit.model.schedule import Schedule
from certorbit.ports.store import UnitOfWork

NATIVE = "/api/certorbit/v1"
DIRECTORY = "https://ca.example.test/directory"


class RevokingIssuer(FakeIssuer):
    """problem: what it says instead of revoking."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, directory=DIRECTORY, can_issue_wildcards=False)
        self.revoked: list[int] = []
        self.problem: CertorbitError | None = None

    async def revoke(self, chain_pem: str, *, reason: int) -> None:
        assert chain_pem.startswith("-----BEGIN CERTIFICATE-----")
        if self.problem is not None:
            raise self.problem
        self.revoked.append(reason)


@contextmanager
def run_renewing_api(directory: Path) -> Iterator[tuple[API, RevokingIssuer]]:
    """Run an API with the issuers `fake` (which made every certificate) and `other`.

    The CA gives one certificate per domain in ten days.
    """
    limit = LimitOverride(directory=DIRECTORY, limit="certificates_per_domain", value="1/10d")
    fake = RevokingIssuer("fake")
    with run_api(
        directory, issuers=(fake, RevokingIssuer("other")), limits=LimitsSettings(overrides=(limit,))
    ) as running:
        yield running, fake


def certificate_path(name: str) -> str:
    return f"{NATIVE}/configs/prod/certificates/{name}"


def write(api: API, work: Any) -> Any:
    return asyncio.run(api.parts.store.write(work))


def finish(api: API, operation_id: str) -> None:
    """Let the operation end with a certificate."""
    write(api, lambda tx: api.workflow.issue(tx, OperationID(operation_id)))


def let_wait(api: API, operation_id: str, *, problem: Problem | None = None) -> None:
    """Let the operation's attempt fail; with a problem: as the workflow does it, its next attempt in an hour."""

    def fail(tx: UnitOfWork) -> None:
        operation = tx.operations.find(OperationID(operation_id))
        assert operation is not None
        now = api.clock.now()
        waiting = (
            replace(operation, state=OperationState.WAITING)
            if problem is None
            else operation.wait_until(now + timedelta(hours=1), problem, now=now)
        )
        tx.operations.update(replace(waiting, issuer_name="fake"))

    write(api, fail)


def window_at(api: API, instant: datetime) -> RenewalInfo:
    """Return what a CA says that would have a certificate renewed at the instant."""
    now = api.clock.now()
    return RenewalInfo(instant, instant + timedelta(days=1), "", instant, now, now + timedelta(days=1), "")


def schedule(api: API, name: str, **fields: Any) -> None:
    """Decide about the entry's renewal, as the sweep does."""

    def put(tx: UnitOfWork) -> None:
        entry = tx.entries.find(ConfigID("prod"), EntryID(name))
        assert entry is not None
        tx.schedules.put(Schedule(entry_uid=entry.uid, look_at=api.clock.now(), **fields))

    write(api, put)
