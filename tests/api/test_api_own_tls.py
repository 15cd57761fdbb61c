"""What the service's own HTTPS is served with, and checked by, can't be deleted under it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from api.material import make_leaf
from api.server import API, Answer, serve
from api.shapes import assert_error
from certorbit.api.app import make_app
from certorbit.tls_settings import TLSSettings

DIALECTS = ("v4", "v4.0", "v4.3")
CERTS = "/api/v4.3/conf/prod/certificates"


@contextmanager
def node(api: API, **tls: Any) -> Iterator[API]:
    """Serve the API's parts once more, as a node whose settings have this `[tls]`."""
    settings = api.parts.settings.model_copy(update={"tls": TLSSettings(**tls)})
    parts = replace(api.parts, settings=settings)
    with serve(make_app(parts)) as port:
        yield replace(api, port=port, parts=parts)


def upload(api: API) -> str:
    name = api.new_name()
    assert api.upload(name, make_leaf(api.ca, "certs.example.test")).status == 201
    return name


def upload_ca(api: API) -> str:
    name = api.new_name()
    document = {"cert_body": api.ca.cert_pem, "side": "clientCA"}
    assert api.call("POST", f"{CERTS}/{name}", document=document).status == 201
    return name


def delete(api: API, name: str, *, dialect: str = "v4.3") -> Answer:
    return api.call("DELETE", f"/api/{dialect}/conf/prod/certificates/{name}")


def version(api: API) -> int:
    return int(api.call("GET", "/api/v4.3/conf/configs/prod").json["version"])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_certificate_that_the_service_serves_is_not_deleted_by_any_node(api: API, dialect: str) -> None:
    own = upload(api)
    with node(api, certificate=f"prod/{own}") as one, node(api, certificate=f"prod/{own}") as other:
        before = version(api)
        for each in (one, other):
            refused = delete(each, own, dialect=dialect)
            assert_error(
                refused, 400, says=f"'{own}' is in use by Certorbit itself, which serves its own HTTPS with it"
            )
            assert "certificate of [tls]" in refused.json["message"]
        assert version(api) == before, "nothing was changed"
        assert api.call("GET", f"{CERTS}/{own}").status == 200


def test_a_replacement_does_not_take_its_place_in_the_settings_and_new_settings_do(api: API) -> None:
    old, new = upload(api), upload(api)
    with node(api, certificate=f"prod/{old}") as before:
        assert before.call("PUT", f"{CERTS}/{new}?replace_cert_id={old}").status == 200
        assert_error(delete(before, old), 400, says="replace_cert_id doesn't move it")
        assert delete(before, upload(api)).status == 200, "any other one goes"
    with node(api, certificate=f"prod/{new}") as after:
        assert delete(after, old).status == 200
        assert_error(delete(after, new), 400, says="in use by Certorbit itself")


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_the_bundle_that_the_services_clients_are_checked_by_is_not_deleted(api: API, mode: str) -> None:
    own, ca = upload(api), upload_ca(api)
    named = {"certificate": f"prod/{own}", "client_ca": f"prod/{ca}"}
    with node(api, client_certificates=mode, **named) as checking:
        refused = delete(checking, ca)
        assert_error(refused, 400, says="checks the certificates of its own clients by it")
        assert "client_ca of [tls]" in refused.json["message"]
    with node(api, **named) as asking_nobody:
        assert delete(asking_nobody, ca).status == 200


def test_an_entry_that_is_named_and_can_not_be_served_is_deleted_as_any_other(api: API) -> None:
    ca, own, unissued = upload_ca(api), upload(api), api.new_name()
    api.workflow.outcome = "go on"
    assert api.generate(unissued, "certs.example.test").status == 201
    with node(api, certificate=f"prod/{unissued}") as waiting:
        assert delete(waiting, unissued).status == 200
    mistaken = {"certificate": f"prod/{ca}", "client_ca": f"prod/{own}", "client_certificates": "required"}
    with node(api, **mistaken) as confused:
        assert delete(confused, own).status == 200
        assert delete(confused, ca).status == 200


def test_the_same_id_in_another_configuration_is_another_entry(api: API) -> None:
    own = upload(api)
    with node(api, certificate=f"shop/{own}") as elsewhere:
        assert delete(elsewhere, own).status == 200
