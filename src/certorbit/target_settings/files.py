"""What targets have that write PEM files into a folder."""

from typing import Annotated

from pydantic import Field

from certorbit.target_settings.table import WithListeners

# Nothing that nginx's configuration or a shell could take for more than a name stands in a path of ours.
FilePath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$", max_length=512)]
OptionalPath = Annotated[str, Field(pattern=r"^((/[A-Za-z0-9_][A-Za-z0-9._-]*)+)?$", max_length=512)]
Command = Annotated[tuple[str, ...], Field(max_length=64)]
FileName = Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,62})?$")]
Account = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$|^$")]


class FileTargetTable(WithListeners):
    """A target that writes files."""

    owner: Account = Field("", description="User name or number that the files belong to; empty: who runs the service")
    group: Account = Field("", description="Group of the files; empty: that of who runs the service")
    mode: str = Field(
        "0640",
        pattern=r"^0[67][0-7]0$",
        description="Rights of the files, octal; others never have any, for the files hold private keys",
    )
