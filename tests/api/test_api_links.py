"""Who uses a certificate: links, and what a deletion or a replacement does to the users."""

from typing import Any

import pytest

from api.balancing import add_copy, attach, find_entry, read, write
from api.material import make_leaf
from api.server import API
from api.shapes import assert_error, assert_validation
from certorbit.model.deployment import Stage, Wanted
from records import make_attachment

DIALECTS = ("v4", "v4.0", "v4.3")
CERTS = "/api/v4.3/conf/prod/certificates"
GROUPS = "/api/v4.3/conf/prod/server-groups"
NOBODY: dict[str, Any] = {"total": 0, "items": []}


def upload(api: API) -> str:
    name = api.new_name()
    assert api.upload(name, make_leaf(api.ca, "www.example.test")).status == 201
    return name


def upload_ca(api: API) -> str:
    name = api.new_name()
    document = {"cert_body": api.ca.cert_pem, "side": "clientCA"}
    assert api.call("POST", f"{CERTS}/{name}", document=document).status == 201
    return name


def add_group(api: API, **fields: str) -> str:
    name = api.new_name()
    assert api.call("POST", f"{GROUPS}/{name}", document={"name": f"Site {name}", **fields}).status == 201
    return name


def group(api: API, name: str) -> dict[str, str]:
    found = api.call("GET", f"{GROUPS}/{name}").json
    assert isinstance(found, dict)
    return found


def version(api: API) -> int:
    return int(api.call("GET", "/api/v4.3/conf/configs/prod").json["version"])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_links_name_the_server_groups_that_use_a_certificate(api: API, dialect: str) -> None:
    name, ca = upload(api), upload_ca(api)
    path = f"/api/{dialect}/conf/prod/certificates"
    assert api.call("GET", f"{path}/{name}/links").json == NOBODY
    users = [add_group(api, ssl_certificate=name, client_certificate=ca) for _ in range(2)]
    expected = {"total": 2, "items": [{"id": user, "name": f"Site {user}"} for user in sorted(users)]}
    assert api.call("GET", f"{path}/{name}/links").json == expected
    assert api.call("GET", f"{path}/{ca}/links/").json == expected
    assert_error(api.call("GET", f"{path}/nowhere/links"), 404, says="'nowhere'")
    assert_error(api.call("GET", f"/api/{dialect}/conf/nowhere/certificates/{name}/links"), 404)
    assert_validation(api.call("GET", f"{path}/Not.An.Id/links"), "path", "entry_id")


def test_the_placeholder_is_used_by_the_built_in_server_group(fresh_api: API) -> None:
    path = f"{CERTS}/placeholder/links"
    assert fresh_api.call("GET", path).json == {"total": 1, "items": [{"id": "__default__", "name": "default"}]}
    assert fresh_api.call("PUT", f"{GROUPS}/__default__", document={"name": "mine"}).status == 200
    assert fresh_api.call("GET", path).json == {"total": 1, "items": [{"id": "__default__", "name": "mine"}]}
    assert fresh_api.call("PUT", f"{GROUPS}/__default__", document={"ssl_certificate": ""}).status == 200
    assert fresh_api.call("GET", path).json == NOBODY


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_certificates_links_are_those_given_and_those_of_our_copies(api: API, dialect: str) -> None:
    name, given = api.new_name(), {"link": "https://cdn.example.test/a", "provider": "cdn", "region": ""}
    answer = api.upload(name, make_leaf(api.ca, "www.example.test"), provider_links=[given])
    assert answer.status == 201
    arn = f"arn:aws:acm:eu-central-1:1:certificate/{name}-of-amazon"
    add_copy(api, name, link=arn)
    add_copy(api, name, link="arn:gone", is_doomed=True)
    links = [given, {"link": f"{arn}/{name}", "provider": "aws", "region": "eu-central-1"}]
    path = f"/api/{dialect}/conf/prod/certificates"
    assert api.call("GET", f"{path}/{name}").json["links"] == links
    item = next(item for item in api.call("GET", path).json["items"] if item["id"] == name)
    assert item.get("links") == (None if dialect == "v4.0" else links)


def test_a_deleted_certificates_server_groups_fall_back_to_the_placeholder(api: API) -> None:
    name = upload(api)
    users, number = [add_group(api, ssl_certificate=name) for _ in range(2)], version(api)
    assert api.call("DELETE", f"{CERTS}/{name}").status == 200
    assert [group(api, user)["ssl_certificate"] for user in users] == ["placeholder"] * 2
    assert version(api) == number + 1, "one request, one version"


@pytest.mark.parametrize("mode", ["on", "optional"])
def test_a_certificate_that_clients_are_checked_by_is_not_deleted(api: API, mode: str) -> None:
    ca = upload_ca(api)
    user = add_group(api, client_certificate=ca, client_certificate_mode=mode)
    before = version(api)
    assert_error(api.call("DELETE", f"{CERTS}/{ca}"), 400, says=f"'{user}' check client certificates by '{ca}'")
    assert (group(api, user)["client_certificate"], version(api)) == (ca, before)
    assert api.call("PUT", f"{GROUPS}/{user}", document={"client_certificate_mode": "off"}).status == 200
    assert api.call("DELETE", f"{CERTS}/{ca}").status == 200
    assert group(api, user)["client_certificate"] == ""


@pytest.mark.parametrize(
    ("wanted", "stage", "says"),
    [
        (Wanted.ATTACHED, Stage.PROVEN, "port 443)"),
        (Wanted.ATTACHED, Stage.PENDING, "port 443)"),
        (Wanted.DETACHED, Stage.CHANGING, "being detached"),
        (Wanted.DETACHED, Stage.FAILED, "being detached"),
    ],
)
def test_a_certificate_on_a_load_balancer_is_not_deleted(api: API, wanted: Wanted, stage: Stage, says: str) -> None:
    name = upload(api)
    user = add_group(api, ssl_certificate=name)
    attachment = attach(api, name, wanted=wanted, stage=stage)
    refused = api.call("DELETE", f"{CERTS}/{name}")
    assert_error(refused, 400, says=f"'lb-of-{name}'")
    assert says in refused.json["message"]
    assert group(api, user)["ssl_certificate"] == name
    write(api, lambda tx: tx.attachments.delete(attachment.id))
    assert api.call("DELETE", f"{CERTS}/{name}").status == 200


def test_a_certificate_that_a_listener_has_let_go_of_can_be_deleted(api: API) -> None:
    name = upload(api)
    attach(api, name, wanted=Wanted.DETACHED, stage=Stage.DETACHED)
    assert api.call("DELETE", f"{CERTS}/{name}").status == 200


def test_replace_cert_id_puts_a_certificate_in_anothers_place_in_server_groups(api: API) -> None:
    old, new, ca, other_ca = upload(api), upload(api), upload_ca(api), upload_ca(api)
    user = add_group(api, ssl_certificate=old, client_certificate=ca, client_certificate_mode="on")
    number = version(api)
    assert api.call("PUT", f"{CERTS}/{new}?replace_cert_id={old}").status == 200
    assert api.call("PUT", f"{CERTS}/{other_ca}?replace_cert_id={ca}").status == 200
    got = group(api, user)
    assert (got["ssl_certificate"], got["client_certificate"]) == (new, other_ca)
    assert version(api) == number + 2
    assert api.call("GET", f"{CERTS}/{old}").status == 200, "it stays, unused"
    assert api.call("PUT", f"{CERTS}/{new}?replace_cert_id={new}").status == 200
    assert api.call("PUT", f"{CERTS}/{new}?replace_cert_id={old}").status == 200
    assert version(api) == number + 2, "nothing differs"


def test_replace_cert_id_needs_a_certificate_that_can_serve_in_that_place(api: API) -> None:
    old, ca, pending = upload(api), upload_ca(api), api.new_name()
    user = add_group(api, ssl_certificate=old)
    api.workflow.outcome = "go on"
    assert api.generate(pending, "slow.example.test").status == 201
    query = f"replace_cert_id={old}&le_auto_renew=false"
    assert_error(api.call("PUT", f"{CERTS}/{pending}?{query}"), 400, says="still being issued")
    assert_error(api.call("PUT", f"{CERTS}/{ca}?{query}"), 400, says=f"'{old}' is for side server")
    assert group(api, user)["ssl_certificate"] == old
    assert api.call("GET", f"{CERTS}/{pending}").json["le_auto_renew"] is True, "nothing was changed"


def test_the_place_of_the_placeholder_can_be_taken(fresh_api: API) -> None:
    name = upload(fresh_api)
    assert fresh_api.call("PUT", f"{CERTS}/{name}?replace_cert_id=placeholder").status == 200
    assert group(fresh_api, "__default__")["ssl_certificate"] == name


def test_a_certificate_that_takes_anothers_place_is_to_take_it_on_listeners_too(fresh_api: API) -> None:
    for name in ("one", "two"):
        assert fresh_api.upload(name, make_leaf(fresh_api.ca, "www.example.test")).status == 201
    entries = {name: find_entry(fresh_api, name) for name in ("one", "two")}
    wish = make_attachment(entries["one"], is_default=True)
    write(fresh_api, lambda tx: tx.attachments.add(wish))
    for replaced in ("one", "two", ""):
        assert fresh_api.call("PUT", f"{CERTS}/two?replace_cert_id={replaced}").status == 200
    (successor,) = read(fresh_api, lambda tx: tx.attachments.list_of_entry(entries["two"].uid))
    assert (successor.listener, successor.is_default) == (wish.listener, True)
    assert successor.replaces == entries["one"].uid
    recorded = fresh_api.call("GET", f"/api/v4.3/conf/configs/prod/versions/{version(fresh_api)}").json["changes"]
    assert [(change["kind"], change["action"]) for change in recorded] == [
        ("attachment", "deleted"),
        ("attachment", "created"),
    ]
    # Until the new one is proven, the old one is held.
    assert_error(fresh_api.call("DELETE", f"{CERTS}/one"), 400, says="in use by the load balancer")
