"""Settings of nginx targets."""

import re
from typing import Literal

from pydantic import Field, model_validator

from certorbit.target_settings.files import Command, FilePath, FileTargetTable, OptionalPath
from certorbit.target_settings.table import ListenerTable


class NginxListener(ListenerTable):
    """An nginx `listen … ssl`. docs/targets/nginx.md shows both forms."""

    sni: bool = Field(
        True,
        description="true: a map from names to certificates, included in `http`; false: one certificate, included in a"
        " `server` block",
    )
    max_certificates: int = Field(
        1000, ge=1, le=100_000, description="Most certificates beside the default one (with sni)"
    )
    fallback: OptionalPath = Field(
        "", description="A PEM file with certificate and key of your own, served where no certificate of ours is"
    )

    verifies_clients: bool = Field(
        False,
        description="All `server` blocks of the listener include `<name>-<port>.clients`, so it may be told to check"
        " client certificates; not needed without sni",
    )

    @property
    def variable(self) -> str:
        """The nginx variable that holds the file for the name that a client asks for."""
        return f"certorbit_{re.sub('[^a-z0-9]', '_', self.name.lower())}_{self.port}"


class NginxTargetSettings(FileTargetTable):
    """Nginx 1.15.9 and newer, by include files and reload."""

    type: Literal["nginx"] = Field(description="The kind of target")
    directory: FilePath = Field("/etc/nginx/certorbit", description="Folder for our include files and certificates")
    test_command: Command = Field(
        ("nginx", "-t"), min_length=1, description="Command that tests nginx's configuration; no shell"
    )
    reload_command: Command = Field(
        ("nginx", "-s", "reload"), min_length=1, description="Command that makes nginx reload; no shell"
    )
    pid_file: OptionalPath = Field(
        "/run/nginx.pid",
        description="File with the master's process id, to see new workers; empty: don't wait for them",
    )
    listeners: tuple[NginxListener, ...] = Field(min_length=1, description="Its listeners, a table each")

    @property
    def dump_command(self) -> tuple[str, ...]:
        """The test command, made to show all files that nginx reads; none if it has no `-t`."""
        if "-t" not in self.test_command:
            return ()
        return tuple("-T" if word == "-t" else word for word in self.test_command)

    @model_validator(mode="after")
    def _check_forms(self) -> "NginxTargetSettings":
        variables = [listener.variable for listener in self.listeners]
        if len(set(variables)) < len(variables):
            raise ValueError(f"target {self.name!r}: two listeners' names differ in punctuation or case only")
        for listener in self.listeners:
            if not listener.sni and not listener.fallback:
                raise ValueError(
                    f"target {self.name!r}: listener {listener.name!r} has sni = false and needs a fallback, for nginx"
                    " doesn't start without a certificate"
                )
        return self
