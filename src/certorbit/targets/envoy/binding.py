"""The address of the SDS server: a port or a unix socket that is ours, and that only those reach who may."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from certorbit.errors import BadInput
from certorbit.target_settings import EnvoyTargetSettings
from certorbit.target_settings.envoy import UNIX


def bind(server: Any, settings: EnvoyTargetSettings, credentials: Any) -> str:
    """Open the port or socket and return its address.

    Raises:
        BadInput: it is taken, not ours, or a socket in a directory that everybody can enter.
    """
    listen = settings.listen
    if listen.startswith(UNIX):
        _check_socket(settings, Path(listen.removeprefix(UNIX)))
    try:
        port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    except RuntimeError as error:
        raise _taken(settings) from error
    if listen.startswith(UNIX):
        Path(listen.removeprefix(UNIX)).chmod(0o660)  # for Envoy's group; the directory keeps everybody else out
        return listen
    return f"{listen.rpartition(':')[0]}:{port}"


def _taken(settings: EnvoyTargetSettings) -> BadInput:
    return BadInput(
        f"targets: {settings.name!r}: the SDS server can't listen at {settings.listen}; is the address this machine's,"
        " and does another process have it? Give `listen` another one.",
        subject="targets",
    )


def _check_socket(settings: EnvoyTargetSettings, path: Path) -> None:
    directory = path.parent
    try:
        is_open = directory.stat().st_mode & 0o001
    except OSError as error:
        raise BadInput(
            f"targets: {settings.name!r}: the directory of the socket, {directory}, can't be used ({error.strerror}).",
            subject="targets",
        ) from error
    if is_open:
        # Whoever can connect gets private keys, and the socket's own mode is set only after it is open.
        raise BadInput(
            f"targets: {settings.name!r}: everybody can enter {directory}, and whoever reaches the socket there gets"
            " private keys; give it mode 0750 and Envoy's group.",
            subject="targets",
        )
    with socket.socket(socket.AF_UNIX) as other, suppress(OSError):
        # gRPC takes a socket's place without a question; what a dead process left behind is nobody's.
        other.setblocking(False)
        other.connect(str(path))
        raise _taken(settings)
