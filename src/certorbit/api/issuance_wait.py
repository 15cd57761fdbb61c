"""Waits for an issuance on behalf of a POST, without holding a thread or a database session."""

from certorbit.api.parts import Parts
from certorbit.model.operation import OperationID
from certorbit.services import promises


async def wait_for_issuance(parts: Parts, operation_id: OperationID) -> None:
    """Return when 201 is true: the certificate is there, or its issuance is promised to go on.

    The promise is written down before the client hears of it; when the end came first, the end counts.

    Raises:
        IssuanceFailed: the issuer refused within the wait, or the entry was deleted meanwhile.
    """
    operation = await parts.watch.wait(operation_id, seconds=parts.settings.issuance.wait)
    if not operation.state.is_final:
        now = parts.clock.now()
        operation = await parts.store.write(lambda tx: promises.promise(tx, operation_id, now=now))
    promises.settle(operation)
