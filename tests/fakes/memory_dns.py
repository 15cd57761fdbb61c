"""A DNS provider in memory, for tests of what stands on the port; it passes the same contract as the real ones."""

from certorbit.errors import SolverFailed


class MemoryDNSWriter:
    """values: by TXT name. calls: what was asked, in order. problem: raised by every call while it is set."""

    kind = "memory"

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.problem: SolverFailed | None = None
        self.waited: list[str] = []
        self.is_closed = False

    async def add_txt(self, name: str, value: str, *, zone: str) -> str:
        self._begin("add", name, value, zone)
        if value not in self.values.setdefault(name, []):
            self.values[name].append(value)
        return f"change-{len(self.calls)}"

    async def wait_applied(self, reference: str) -> None:
        self.waited.append(reference)

    async def remove_txt(self, name: str, value: str, *, zone: str) -> None:
        self._begin("remove", name, value, zone)
        self.values[name] = [other for other in self.values.get(name, []) if other != value]

    async def close(self) -> None:
        self.is_closed = True

    def _begin(self, action: str, name: str, value: str, zone: str) -> None:
        self.calls.append((action, name, value))
        if self.problem is not None:
            raise self.problem
        assert name == zone or name.endswith("." + zone)
