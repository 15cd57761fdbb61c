"""A configuration's versions: what is written down of each change, and the way back."""

import json
from dataclasses import replace
from typing import Any

import pytest

from api.balancing import PROD, find_entry, read, write
from api.material import make_leaf
from api.server import API, Answer, serve
from api.shapes import PEM_KEY, assert_error, assert_validation
from certorbit.api.app import make_app
from certorbit.model.change_states import change_of_attachment
from certorbit.model.deployment import Wanted
from certorbit.model.entry import Entry, Source, Version, VersionID
from certorbit.pki.read import read_facts
from certorbit.ports.store import UnitOfWork
from certorbit.ports.target import PlacedTarget
from fakes.fake_target import FakeTarget
from records import make_attachment, make_listener

DIALECTS = ("v4", "v4.0", "v4.3")
CERTS = "/api/v4.3/conf/prod/certificates"
GROUPS = "/api/v4.3/conf/prod/server-groups"
NATIVE = "/api/certorbit/v1/configs/prod/certificates"


def versions(dialect: str = "v4.3", config: str = "prod") -> str:
    return f"/api/{dialect}/conf/configs/{config}/versions"


def version(api: API) -> int:
    return int(api.call("GET", "/api/v4.3/conf/configs/prod").json["version"])


def newest(api: API) -> dict[str, Any]:
    found = api.call("GET", f"{versions()}/{version(api)}").json
    assert isinstance(found, dict)
    return found


def revert(api: API, number: int, *, dialect: str = "v4.3") -> Answer:
    return api.call("PUT", f"{versions(dialect)}/{number}/revert")


def upload(api: API, name: str, **fields: Any) -> None:
    assert api.upload(name, make_leaf(api.ca, "www.example.test"), **fields).status == 201


def put_group(api: API, name: str, /, *, method: str = "POST", **fields: Any) -> None:
    document = {"name": name, **fields} if method == "POST" else fields
    assert api.call(method, f"{GROUPS}/{name}", document=document).status in {200, 201}


def group(api: API, name: str) -> Any:
    return api.call("GET", f"{GROUPS}/{name}").json


def renew(api: API, name: str) -> VersionID:
    """Give the entry a further version, as a renewal does: without a change by a client."""
    entry, leaf = find_entry(api, name), make_leaf(api.ca, "www.example.test")
    new = Version(
        id=VersionID(api.parts.new_id()),
        entry_uid=entry.uid,
        created_at=api.clock.now(),
        source=Source.GENERATED,
        chain_pem=leaf.cert_pem,
        sealed_key=None,
        facts=read_facts(leaf.certificate),
        le_hash="",
        issuer_name="fake",
    )
    write(api, lambda tx: tx.entries.add_version(new))
    return new.id


def current(api: API, name: str) -> VersionID:
    entry = find_entry(api, name)
    assert entry.current is not None
    return entry.current.id


def test_every_change_is_one_version_with_its_author(fresh_api: API) -> None:
    api = fresh_api
    upload(api, "a")
    assert api.call("PUT", f"{CERTS}/a?le_auto_renew=false", key="admin-no-export").status == 200
    put_group(api, "shop", ssl_certificate="a")
    put_group(api, "shop", method="PUT", description="new")
    assert api.call("DELETE", f"{CERTS}/a").status == 200
    assert api.call("DELETE", f"{GROUPS}/shop").status == 200
    listed = api.call("GET", versions()).json
    assert listed["total"] == 6
    assert [(item["version"], item["by"]) for item in listed["items"]] == [
        ("7", "admin"),
        ("6", "admin"),
        ("5", "admin"),
        ("4", "admin"),
        ("3", "admin-no-export"),
        ("2", "admin"),
    ]
    assert {item["date"] for item in listed["items"]} == {"2026-11-24T12:00:00.000Z"}
    changes = [[(c["kind"], c["id"], c["action"]) for c in item["changes"]] for item in listed["items"]]
    assert changes == [
        [("server-group", "shop", "deleted")],
        [("server-group", "shop", "changed"), ("certificate", "a", "deleted")],
        [("server-group", "shop", "changed")],
        [("server-group", "shop", "created")],
        [("certificate", "a", "changed")],
        [("certificate", "a", "created")],
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_page_of_versions_is_followed_by_the_next(api: API, dialect: str) -> None:
    for _ in range(3):
        put_group(api, api.new_name())
    path, number = versions(dialect), version(api)
    page = api.call("GET", f"{path}/?limit=2").json
    assert [item["version"] for item in page["items"]] == [str(number), str(number - 1)]
    assert page["total"] == number - 1
    following = api.call("GET", f"{path}?limit=1&before={number - 1}").json
    assert [item["version"] for item in following["items"]] == [str(number - 2)]
    for query in ("limit=0", "limit=501", "limit=x", "before=0"):
        assert_validation(api.call("GET", f"{path}?{query}"), "query", query.split("=")[0])
    assert_error(api.call("GET", versions(dialect, "nowhere")), 404)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_one_version_shows_each_thing_before_and_after_and_never_a_key(api: API, dialect: str) -> None:
    name, site = api.new_name(), api.new_name()
    link = {"link": "arn:one", "provider": "aws", "region": "eu-central-1"}
    upload(api, name, provider_links=[link])
    entry = find_entry(api, name)
    assert entry.current is not None
    answer = api.call("GET", f"{versions(dialect)}/{version(api)}")
    assert answer.json == {
        "version": str(version(api)),
        "date": "2026-11-24T12:00:00.000Z",
        "by": "admin",
        "changes": [
            {
                "kind": "certificate",
                "id": name,
                "action": "created",
                "before": None,
                "after": {
                    "side": "server",
                    "source": "uploaded",
                    "le_auto_renew": True,
                    "le_auto_replace": True,
                    "identifiers": ["www.example.test"],
                    "version": entry.current.id,
                    "fingerprint": entry.current.facts.fingerprint,
                    "provider_links": [link],
                },
            }
        ],
    }
    put_group(api, site, ssl_certificate=name)
    shown = group(api, site)
    put_group(api, site, method="PUT", server_names=["b.example.test", "a.example.test"])
    assert newest(api)["changes"] == [
        {
            "kind": "server-group",
            "id": site,
            "action": "changed",
            "before": {field: value for field, value in shown.items() if field != "id"},
            "after": {field: value for field, value in group(api, site).items() if field != "id"},
        }
    ]
    everything = json.dumps([api.call("GET", f"{versions()}/{n}").json for n in range(2, version(api) + 1)])
    assert PEM_KEY not in everything
    assert "BEGIN CERTIFICATE" not in everything


def test_a_version_that_does_not_exist_is_not_found(api: API) -> None:
    put_group(api, api.new_name())
    for number in (1, version(api) + 1, 2**31 - 1):
        assert_error(api.call("GET", f"{versions()}/{number}"), 404, says=f"version {number} ")
    assert_error(revert(api, version(api) + 1), 404, says="the current one is")
    assert_error(api.call("GET", f"{versions(config='nowhere')}/2"), 404)
    assert_error(api.call("PUT", f"{versions(config='nowhere')}/2/revert"), 404)
    for bad in ("0", "-1", "x", str(2**31)):
        assert_validation(api.call("GET", f"{versions()}/{bad}"), "path", "number")
        assert_validation(api.call("PUT", f"{versions()}/{bad}/revert"), "path", "number")


def test_who_may_only_read_reverts_nothing(api: API) -> None:
    put_group(api, api.new_name())
    assert api.call("GET", f"{versions()}/{version(api)}", key="reader").status == 200
    assert_error(api.call("PUT", f"{versions()}/1/revert", key="reader"), 403)


@pytest.mark.parametrize(("dialect", "body"), [("v4", b'{"message":"Successfully updated entry"}'), ("v4.3", b"")])
def test_server_groups_and_flags_become_what_they_were(fresh_api: API, dialect: str, body: bytes) -> None:
    api = fresh_api
    upload(api, "a")
    upload(api, "b", le_auto_renew=False)
    put_group(api, "shop", ssl_certificate="a", server_names=["shop.example.test"])
    put_group(api, "gone", ssl_certificate="b")
    number = version(api)
    before = {"groups": api.call("GET", GROUPS).json, "certificates": api.call("GET", CERTS).json}

    put_group(api, "shop", method="PUT", ssl_certificate="b", name="other")
    put_group(api, "shop", method="PUT", description="twice")
    put_group(api, "__default__", method="PUT", ssl_certificate="a")
    put_group(api, "since")
    assert api.call("DELETE", f"{GROUPS}/gone").status == 200
    assert api.call("PUT", f"{CERTS}/a?le_auto_renew=false&le_auto_replace=false").status == 200
    assert api.call("PUT", f"{CERTS}/b").status == 200

    answer = api.call("PUT", f"{versions(dialect)}/{number}/revert", key="admin-no-export")
    assert (answer.status, answer.body) == (200, body)
    assert {"groups": api.call("GET", GROUPS).json, "certificates": api.call("GET", CERTS).json} == before
    made = newest(api)
    assert (version(api), made["by"]) == (number + 8, "admin-no-export")
    assert [(c["kind"], c["id"], c["action"]) for c in made["changes"]] == [
        ("certificate", "a", "changed"),
        ("certificate", "b", "changed"),
        ("server-group", "__default__", "changed"),
        ("server-group", "gone", "created"),
        ("server-group", "shop", "changed"),
        ("server-group", "since", "deleted"),
    ]
    assert revert(api, number).status == 200
    assert version(api) == number + 8, "a repeat changes nothing"
    assert revert(api, number + 7).status == 200
    assert group(api, "shop")["description"] == "twice", "the way back can be taken back"


def test_certificates_made_since_stay(fresh_api: API) -> None:
    upload(fresh_api, "a")
    number = version(fresh_api)
    upload(fresh_api, "new")
    assert fresh_api.call("PUT", f"{CERTS}/new?le_auto_renew=false").status == 200
    assert fresh_api.call("DELETE", f"{CERTS}/a").status == 200
    upload(fresh_api, "a", le_auto_replace=False)
    assert revert(fresh_api, number).status == 200
    assert fresh_api.call("GET", f"{CERTS}/new").json["le_auto_renew"] is False
    assert fresh_api.call("GET", f"{CERTS}/a").json["le_auto_replace"] is False, "another one of that id"


def test_a_server_group_whose_certificate_is_gone_can_not_come_back(fresh_api: API) -> None:
    api = fresh_api
    upload(api, "a")
    put_group(api, "other", description="before")
    put_group(api, "shop", ssl_certificate="a")
    number = version(api)
    put_group(api, "other", method="PUT", description="after")
    assert api.call("DELETE", f"{CERTS}/a").status == 200
    before = version(api)
    refused = revert(api, number)
    assert_error(refused, 400, says="server group 'shop' has the ssl_certificate 'a', and that certificate is gone")
    assert (version(api), group(api, "other")["description"]) == (before, "after"), "nothing changed"
    document = {"cert_body": api.ca.cert_pem, "side": "clientCA"}
    assert api.call("POST", f"{CERTS}/a", document=document).status == 201
    assert_error(revert(api, number), 400, says="another one now, for side clientCA")
    assert api.call("DELETE", f"{CERTS}/a").status == 200
    upload(api, "a")
    assert revert(api, number).status == 200
    assert (group(api, "shop")["ssl_certificate"], group(api, "other")["description"]) == ("a", "before")


def test_a_roll_back_is_taken_back_but_a_renewal_never(fresh_api: API) -> None:
    api = fresh_api
    upload(api, "a")
    first, number = current(api, "a"), version(api)
    second = renew(api, "a")
    assert version(api) == number, "a renewal is no client's change"
    assert api.call("PUT", f"{CERTS}/a?le_auto_renew=false").status == 200
    assert revert(api, number).status == 200
    assert current(api, "a") == second

    before = version(api)
    assert api.call("POST", f"{NATIVE}/a/versions/{first}/rollback").status == 200
    assert newest(api)["changes"][0]["before"]["version"] == second
    assert revert(api, before).status == 200
    assert current(api, "a") == second
    assert revert(api, before + 1).status == 200
    assert current(api, "a") == first
    third = renew(api, "a")
    assert revert(api, before).status == 200
    assert current(api, "a") == third, "a renewed certificate never goes back to an older one"


def test_a_version_that_has_ended_is_not_made_current_again(fresh_api: API) -> None:
    api = fresh_api
    upload(api, "a")
    first = current(api, "a")
    renew(api, "a")
    number = version(api)
    assert api.call("POST", f"{NATIVE}/a/versions/{first}/rollback").status == 200
    api.clock.advance(days=400)
    assert revert(api, number).status == 200
    assert current(api, "a") == first


def test_attachments_come_back_and_that_is_recorded(fresh_api: API) -> None:
    upload(fresh_api, "a")
    entry = find_entry(fresh_api, "a")
    wish = make_attachment(entry)
    listener = make_listener(wish.listener)
    number = version(fresh_api)

    def attach(tx: UnitOfWork) -> None:
        tx.listeners.put(listener, now=fresh_api.clock.now())
        tx.attachments.add(wish)
        change = change_of_attachment(None, wish)
        tx.configurations.record(PROD, [change], by="admin", now=fresh_api.clock.now())

    write(fresh_api, attach)
    assert revert(fresh_api, number).status == 200
    (row,) = read(fresh_api, lambda tx: tx.attachments.list_of_entry(entry.uid))
    assert row.wanted is Wanted.DETACHED
    assert [(c["kind"], c["action"]) for c in newest(fresh_api)["changes"]] == [("attachment", "deleted")]
    assert_error(revert(fresh_api, number + 1), 404, says="is gone")  # the settings have no such target
    target = FakeTarget(wish.listener.target)
    targets = {target.name: PlacedTarget(target=target, configurations=(), grace_seconds=0.0)}
    with serve(make_app(replace(fresh_api.parts, targets=targets))) as port:
        assert revert(replace(fresh_api, port=port), number + 1).status == 200
    (row,) = read(fresh_api, lambda tx: tx.attachments.list_of_entry(entry.uid))
    assert row.wanted is Wanted.ATTACHED
    assert [(c["kind"], c["action"]) for c in newest(fresh_api)["changes"]] == [("attachment", "created")]


def test_the_service_signs_for_an_issuance_that_failed(fresh_api: API) -> None:
    fresh_api.workflow.outcome = "go on"
    assert fresh_api.generate("slow", "slow.example.test").status == 201
    assert newest(fresh_api)["changes"][0]["after"]["version"] is None
    entry: Entry = find_entry(fresh_api, "slow")
    operation = fresh_api.call("GET", "/api/certorbit/v1/operations?entry=slow").json["items"][0]["id"]
    put_group(fresh_api, "shop", ssl_certificate="slow")
    assert fresh_api.call("POST", f"/api/certorbit/v1/operations/{operation}/cancel").status == 200
    assert group(fresh_api, "shop")["ssl_certificate"] == "placeholder"
    made = newest(fresh_api)
    assert [(c["kind"], c["id"], c["action"]) for c in made["changes"]] == [
        ("server-group", "shop", "changed"),
        ("certificate", entry.id, "deleted"),
    ]
