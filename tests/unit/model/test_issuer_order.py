"""Who may give a certificate its next version, and what is said of one that gets none by itself."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from certorbit.model.entry import Entry, Side, Source
from certorbit.model.issuer_order import IssuerOrder, Origin, explain_none, order_of, origin_of, permitted
from certorbit.model.next_version import NextVersion, Obstacle, find_next
from certorbit.model.operation import OperationID, OperationKind, new_operation
from records import NOW, make_entry

ACME = "https://ca.example.test/directory"
ALONE = {"internal": "internal"}  # what there is if nothing is configured
BOTH = {"le": ACME, "lab": "internal"}
LAB_FIRST = {"lab": "internal", "le": ACME}
PUBLIC = Origin(made_by="le")
ASKED = Origin(asked="le")
UPLOAD = Origin(is_upload=True)


@pytest.mark.parametrize(
    ("directories", "origin", "chosen", "names"),
    [
        pytest.param(ALONE, Origin(), "", ("internal",), id="a-new-one-comes-from-what-there-is"),
        pytest.param(ALONE, Origin(made_by="internal"), "", ("internal",), id="its-own-are-renewed"),
        pytest.param(ALONE, PUBLIC, "", (), id="refused/the-ca-is-not-configured-any-more"),
        pytest.param(ALONE, ASKED, "", (), id="refused/the-ca-that-was-asked-is-gone"),
        pytest.param(ALONE, PUBLIC, "internal", ("internal",), id="named-for-the-certificate"),
        pytest.param(ALONE, Origin(made_by="le", asked="internal"), "", ("internal",), id="named-for-the-operation"),
        pytest.param(ALONE, UPLOAD, "", (), id="refused/an-upload-without-a-ca"),
        pytest.param(ALONE, UPLOAD, "internal", ("internal",), id="an-upload-for-which-it-is-named"),
        pytest.param({"lab": "internal"}, PUBLIC, "", (), id="refused/a-table-that-was-left-over"),
        pytest.param(BOTH, PUBLIC, "", ("le",), id="refused/no-failover-from-a-ca-to-the-built-in-one"),
        pytest.param(BOTH, ASKED, "", ("le",), id="refused/no-failover-of-a-request-either"),
        pytest.param(BOTH, PUBLIC, "lab", ("lab", "le"), id="chosen-before-its-ca"),
        pytest.param(BOTH, Origin(), "", ("le", "lab"), id="nobody-was-asked-yet"),
        pytest.param(BOTH, Origin(made_by="internal"), "", ("le", "lab"), id="made-by-it-under-its-first-name"),
        pytest.param(BOTH, UPLOAD, "", ("le",), id="an-upload-and-a-ca"),
        pytest.param(LAB_FIRST, PUBLIC, "", ("lab", "le"), id="the-operator-put-it-before-the-ca"),
        pytest.param(LAB_FIRST, PUBLIC, "le", ("le",), id="refused/chosen-ca-has-no-failover-to-it"),
        pytest.param(LAB_FIRST, Origin(made_by="gone"), "", ("le",), id="refused/before-nobody"),
        pytest.param(LAB_FIRST, UPLOAD, "", ("le",), id="an-upload-goes-to-the-ca"),
        pytest.param({"zs": ACME}, PUBLIC, "", ("zs",), id="another-ca-takes-over"),
    ],
)
def test_the_built_in_ca_issues_only_what_is_meant_for_it(
    directories: Mapping[str, str], origin: Origin, chosen: str, names: tuple[str, ...]
) -> None:
    assert permitted(order_of("prod", directories), origin, chosen=chosen) == names


@pytest.mark.parametrize(
    ("own", "origin", "names"),
    [
        (("lab",), PUBLIC, ("lab",)),
        (("le", "lab"), PUBLIC, ("le", "lab")),
        (("le", "lab"), ASKED, ("le", "lab")),
        (("le", "lab"), UPLOAD, ("le",)),
        (("gone",), PUBLIC, ("le",)),
    ],
    ids=["alone", "failover", "failover-of-a-request", "an-upload-still-needs-a-ca", "a-list-of-nothing-that-is-there"],
)
def test_a_configurations_own_list_names_each_of_its_issuers(
    own: tuple[str, ...], origin: Origin, names: tuple[str, ...]
) -> None:
    assert permitted(order_of("prod", BOTH, {"prod": own}), origin) == names
    assert permitted(order_of("other", BOTH, {"prod": own}), PUBLIC) == ("le",)


def test_an_origin_is_read_from_the_current_version_and_the_operation() -> None:
    entry = make_entry("shop")
    assert entry.current is not None
    made = replace(entry, current=replace(entry.current, source=Source.GENERATED, issuer_name="le"))
    assert origin_of(made) == PUBLIC
    uploaded = replace(entry, current=replace(entry.current, source=Source.UPLOADED, issuer_name=""))
    assert origin_of(uploaded) == UPLOAD
    request = new_operation(entry, OperationKind.ISSUE, id=OperationID("o"), now=NOW, issuer_name="le")
    assert origin_of(replace(entry, current=None), request) == ASKED
    assert origin_of(None) == Origin()
    replacement = new_operation(entry, OperationKind.REPLACE, id=OperationID("o"), now=NOW)
    assert origin_of(None, replacement) == UPLOAD


def test_why_nobody_may_issue_says_what_helps() -> None:
    order = order_of("prod", ALONE)
    for words in ("'le', which is not configured any more", "CERTORBIT_ACME_DIRECTORY", "name the built-in CA"):
        assert words in explain_none(PUBLIC, order)
    assert "no CA is configured" in explain_none(UPLOAD, order)


# --- what gives an entry its next version ---------------------------------------------------------


def find(
    entry: Entry, directories: Mapping[str, str] = BOTH, *, paused: bool = False, chosen: str = "", covers: bool = True
) -> NextVersion:
    order: IssuerOrder = order_of(entry.config, directories)
    return find_next(entry, order=order, covers=lambda _name, _identifier: covers, chosen=chosen, paused=paused)


def entry_of(source: Source, *, renew: bool = True, replaces: bool = True, names: tuple[str, ...] = ()) -> Entry:
    entry = make_entry("shop")
    assert entry.current is not None
    is_generated = source is Source.GENERATED
    version = replace(entry.current, source=source, issuer_name="le" if is_generated else "")
    return replace(
        entry,
        side=Side.SERVER,
        source=source,
        current=version,
        le_auto_renew=renew,
        le_auto_replace=replaces,
        identifiers=names or ("www.example.com",),
    )


GENERATED, UPLOADED = entry_of(Source.GENERATED), entry_of(Source.UPLOADED)


@pytest.mark.parametrize(
    ("found", "obstacle", "says"),
    [
        (find(replace(GENERATED, source=Source.BUILT_IN)), Obstacle.BUILT_IN, "built in"),
        (find(replace(UPLOADED, side=Side.CLIENT_CA)), Obstacle.CA_BUNDLE, "bundle of CA"),
        (find(replace(GENERATED, current=None)), Obstacle.NOT_ISSUED, "not issued yet"),
        (find(entry_of(Source.GENERATED, renew=False)), Obstacle.AUTO_RENEW_OFF, "le_auto_renew is false"),
        (find(entry_of(Source.UPLOADED, replaces=False)), Obstacle.AUTO_REPLACE_OFF, "le_auto_replace is false"),
        (find(GENERATED, ALONE), Obstacle.NO_ISSUER, "'le', which is not configured any more"),
        (find(UPLOADED, ALONE), Obstacle.NO_CA, "no CA is configured"),
        (find(UPLOADED, covers=False), Obstacle.NO_SOLVER, "no solver for www.example.com"),
        (find(entry_of(Source.UPLOADED, names=("localhost",))), Obstacle.NO_PUBLIC_NAME, "no CA issues for its names"),
        (find(GENERATED, paused=True), Obstacle.PAUSED, "paused it"),
        (find(GENERATED, ALONE, paused=True), Obstacle.NO_ISSUER, "not configured any more"),
    ],
    ids=lambda value: value.value if isinstance(value, Obstacle) else "",
)
def test_what_is_not_renewed_by_itself_has_a_reason(found: NextVersion, obstacle: Obstacle, says: str) -> None:
    assert (found.obstacle, found.is_automatic) == (obstacle, False)
    assert says in found.message
    assert (found.kind is not None) == (obstacle is Obstacle.PAUSED), "what is paused stays planned"


def test_what_is_renewed_by_itself_has_a_kind_and_issuers() -> None:
    assert find(GENERATED) == NextVersion(OperationKind.RENEW, issuers=("le",))
    assert find(UPLOADED) == NextVersion(OperationKind.REPLACE, issuers=("le",))
    assert find(GENERATED, ALONE, chosen="internal").kind is OperationKind.RENEW
    assert find(UPLOADED, LAB_FIRST).issuers == ("le",), "the built-in CA comes first, but not for uploads"
