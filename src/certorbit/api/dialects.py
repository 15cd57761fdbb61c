"""The dialects: the same resources under three prefixes, told apart by these values alone (contract.md, Dialects)."""

from dataclasses import dataclass

from certorbit.model.entry import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one revision of the WAAP API does differently.

    name: the path segment after `/api/`.
    has_name: certificates carry `name` (equal to `id`).
    has_links_in_lists: `links` stands in lists too, not only in single certificates.
    update_message, delete_message: what a PUT and a DELETE answer with; "": no body.
    client_ca: how the side `clientCA` is written. Every dialect reads every spelling.
    """

    name: str
    has_name: bool
    has_links_in_lists: bool
    update_message: str
    delete_message: str
    client_ca: str

    @property
    def prefix(self) -> str:
        return f"/api/{self.name}"

    def write_side(self, side: Side) -> str:
        return self.client_ca if side is Side.CLIENT_CA else side.value


V4 = Dialect(
    name="v4",
    has_name=True,
    has_links_in_lists=True,
    update_message="Successfully updated entry",
    delete_message="Successfully deleted entry",
    client_ca="clientCA",
)
V4_0 = Dialect(
    name="v4.0",
    has_name=False,
    has_links_in_lists=False,
    update_message="",
    delete_message="",
    client_ca="client",
)
V4_3 = Dialect(
    name="v4.3",
    has_name=True,
    has_links_in_lists=True,
    update_message="",
    delete_message="",
    client_ca="clientCA",
)
DIALECTS = (V4, V4_0, V4_3)
