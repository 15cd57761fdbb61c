"""Settings of HAProxy targets."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from certorbit.target_settings.table import ListenerTable, WithListeners, split_address

# Only what neither the runtime API nor a crt-list takes apart: no blanks, quotes, backslashes, semicolons, brackets.
_PATH = r"^/[A-Za-z0-9._/@%+~-]+$"


def _check_path(text: str) -> str:
    if any(part in {"", ".", ".."} for part in text.split("/")[1:]):
        raise ValueError("write the path without '//', '.', '..' and without a slash at the end")
    return text


def _check_socket(text: str) -> str:
    if text.startswith("/"):
        return _check_path(text)
    if not text.rpartition(":")[0] or text.endswith("]"):
        raise ValueError("write the path of the unix socket, or host:port")
    split_address(text, 1)
    return text


PlainPath = Annotated[str, Field(pattern=_PATH, max_length=200), AfterValidator(_check_path)]


class HAProxyListenerTable(ListenerTable):
    """One listener: the `bind` lines of HAProxy that share a crt-list."""

    crt_list: PlainPath = Field(description="The crt-list file, as haproxy.cfg names it (an absolute path)")


class HAProxyTargetSettings(WithListeners):
    """HAProxy 2.4 and newer, by its runtime API."""

    type: Literal["haproxy"] = Field(description="The kind of target")
    socket: Annotated[str, AfterValidator(_check_socket)] = Field(
        description="The runtime API, level admin: path of the unix socket, or host:port"
    )
    directory: PlainPath = Field(description="Folder for certificates and keys, the same path for HAProxy and for us")
    mode: str = Field("0600", pattern=r"^0?[0-7]{3}$", description="Mode of the files in it, octal")
    owner: str = Field("", max_length=64, description="Owner of the files, a name or a number; empty: our own user")
    group: str = Field("", max_length=64, description="Group of the files, a name or a number; empty: our own group")
    max_certificates: int = Field(
        1000, ge=0, le=100_000, description="Most certificates of a listener beside its default"
    )
    listeners: tuple[HAProxyListenerTable, ...] = Field(min_length=1, description="Its TLS listeners")

    @model_validator(mode="after")
    def _check_places(self) -> "HAProxyTargetSettings":
        names = [listener.name for listener in self.listeners]
        if len(set(names)) < len(names):
            raise ValueError(f"target {self.name!r}: two listeners have the same name; it is the name of their folder")
        lists = [listener.crt_list for listener in self.listeners]
        if len(set(lists)) < len(lists):
            raise ValueError(
                f"target {self.name!r}: two listeners have the same crt_list; write one listener with all addresses"
            )
        return self
