"""Settings of directory targets."""

from typing import Literal

from pydantic import Field, model_validator

from certorbit.target_settings.files import Command, FileName, FilePath, FileTargetTable
from certorbit.target_settings.table import ListenerTable, Table


class DirectoryListener(ListenerTable):
    """A place that something serves from the files."""

    max_certificates: int = Field(
        1000, ge=0, le=100_000, description="Most certificates beside the default one; 0: the default one alone"
    )


class DirectoryFiles(Table):
    """Names of the files of a certificate; an empty name: that file isn't written."""

    key: FileName = Field("privkey.pem", description="The private key")
    certificate: FileName = Field("cert.pem", description="The certificate alone")
    chain: FileName = Field("chain.pem", description="Its issuers, without itself")
    fullchain: FileName = Field("fullchain.pem", description="The certificate and its issuers")
    combined: FileName = Field("", description="The certificate, its issuers and the private key in one file")

    @model_validator(mode="after")
    def _check_names(self) -> "DirectoryFiles":
        names = [name for name in (self.key, self.certificate, self.chain, self.fullchain, self.combined) if name]
        if len(set(names)) < len(names):
            raise ValueError("files: two files have the same name")
        if not (self.fullchain or self.combined or self.certificate):
            raise ValueError("files: none of them holds the certificate")
        return self


class DirectoryTargetSettings(FileTargetTable):
    """PEM files in a folder, and a command after each change."""

    type: Literal["directory"] = Field(description="The kind of target")
    directory: FilePath = Field(description="The folder")
    command: Command = Field(
        (), description="Command after each change of what is served; no shell; none: nothing runs"
    )
    files: DirectoryFiles = Field(default_factory=DirectoryFiles, description="Names of the files")
    listeners: tuple[DirectoryListener, ...] = Field(min_length=1, description="Its listeners, a table each")
