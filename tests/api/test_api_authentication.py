"""Who may call, and what each key may do."""

import asyncio
import http.client

import pytest

from api.material import make_leaf
from api.server import API, CERTS, SECRETS, run_api
from api.shapes import assert_error, assert_validation
from certorbit.model.access import APIKeyID
from certorbit.services.api_keys import revoke_key

ADMIN = SECRETS["admin"]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="refused/no header"),
        pytest.param("", id="refused/empty header"),
        pytest.param("Basic", id="refused/scheme alone"),
        pytest.param("Basic ", id="refused/scheme and a space"),
        pytest.param(ADMIN, id="refused/key without scheme"),
        pytest.param(f"Digest {ADMIN}", id="refused/other scheme"),
        pytest.param(f"Basic {ADMIN}x", id="refused/unknown key"),
        pytest.param(f"Basic {ADMIN} {ADMIN}", id="refused/two keys"),
        pytest.param("Basic " + "k" * 5000, id="refused/endless key"),
        pytest.param("Basic k\xe9y", id="refused/not ASCII"),
    ],
)
@pytest.mark.parametrize("path", [CERTS, "/api/v4/nothing", "/api", "/metrics", "/api/certorbit/v1/api-keys"])
def test_without_a_known_key_everything_under_api_is_401(api: API, path: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = api.call("GET", path, key=None, headers=headers)
    assert_error(answer, 401)
    assert answer.headers["www-authenticate"] == 'Basic realm="certorbit"'


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Bearer", "bearer", "BEARER", "Basic \t"])
def test_a_key_is_taken_as_it_stands_under_both_schemes(api: API, scheme: str) -> None:
    answer = api.call("GET", CERTS, key=None, headers={"Authorization": f"{scheme} {ADMIN}"})
    assert answer.status == 200


def test_two_authorization_headers_are_refused(api: API) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
    connection.putrequest("GET", CERTS)
    connection.putheader("Authorization", f"Basic {ADMIN}")
    connection.putheader("Authorization", f"Basic {ADMIN}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_the_key_is_checked_before_the_body_and_the_parameters(api: API) -> None:
    answer = api.call("POST", f"{CERTS}/NOT-AN-ID?le_auto_renew=x", key=None, body=b"{not json" * 100_000)
    assert_error(answer, 401)


def test_the_right_is_checked_before_the_parameters(api: API) -> None:
    assert_error(api.call("PUT", f"{CERTS}/NOT-AN-ID?le_auto_renew=x", key="reader"), 403)
    assert_validation(api.call("PUT", f"{CERTS}/NOT-AN-ID?le_auto_renew=x"), "path", "entry_id")


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/crl/internal.crl",
        "/api/certorbit/v1/issuers/internal/root.pem",
        "/api/certorbit/v1/issuers/internal/root.pem/",
    ],
)
def test_what_holds_no_secret_needs_no_key(api: API, path: str) -> None:
    assert api.call("GET", path, key=None).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_the_public_root_is_public_for_reading_only(api: API, method: str) -> None:
    assert_error(api.call(method, "/api/certorbit/v1/issuers/internal/root.pem", key=None), 401)


# What each key may do: the status for admin, admin without export, reader, reader with export.
RIGHTS = [
    ("GET", CERTS, (200, 200, 200, 200)),
    ("GET", f"{CERTS}/placeholder", (200, 200, 200, 200)),
    ("GET", f"{CERTS}/placeholder/pem", (200, 403, 403, 200)),
    ("GET", f"{CERTS}/placeholder/pfx", (200, 403, 403, 200)),
    ("GET", f"{CERTS}/a-bundle/pem", (200, 200, 200, 200)),
    ("GET", f"{CERTS}/a-bundle/pfx", (200, 200, 200, 200)),
    ("POST", f"{CERTS}/rights?domains=r.example.test", (201, 201, 403, 403)),
    ("PUT", f"{CERTS}/a-bundle", (200, 200, 403, 403)),
    ("DELETE", f"{CERTS}/unknown", (404, 404, 403, 403)),
    ("GET", "/api/v4.3/conf/configs", (200, 200, 200, 200)),
    ("GET", "/api/certorbit/v1/operations", (200, 200, 200, 200)),
    ("GET", "/api/certorbit/v1/issuers", (200, 200, 200, 200)),
    ("GET", "/api/certorbit/v1/api-keys", (200, 200, 403, 403)),
    ("POST", "/api/certorbit/v1/api-keys", (422, 422, 403, 403)),
    ("DELETE", "/api/certorbit/v1/api-keys/unknown", (404, 404, 403, 403)),
    ("GET", "/metrics", (200, 200, 200, 200)),
]


@pytest.mark.parametrize(("method", "path", "statuses"), RIGHTS, ids=lambda value: str(value).replace("/", "_"))
def test_each_key_may_do_what_its_rights_say(api: API, method: str, path: str, statuses: tuple[int, ...]) -> None:
    api.call("POST", f"{CERTS}/a-bundle", document={"cert_body": api.ca.cert_pem, "side": "clientCA"})
    for key, status in zip(SECRETS, statuses, strict=True):
        answer = api.call(method, path, key=key)
        assert answer.status == status, (key, answer.body)
        if status == 403:
            assert_error(answer, 403, says=key)


@pytest.mark.parametrize("dialect", ["v4", "v4.0", "v4.3"])
def test_private_keys_are_shown_only_to_those_who_may_export_them(api: API, dialect: str) -> None:
    name, leaf = api.new_name(), make_leaf(api.ca, "k.example.test")
    assert api.upload(name, leaf).status == 201
    base = f"/api/{dialect}/conf/prod/certificates"
    for key, may in (("admin", True), ("admin-no-export", False), ("reader", False), ("reader-export", True)):
        one = api.call("GET", f"{base}/{name}", key=key).json
        listed = next(item for item in api.call("GET", base, key=key).json["items"] if item["id"] == name)
        shown = leaf.key_pem if may else ""
        assert (one["private_key"], listed["private_key"]) == (shown, shown)


def make_key(api: API, **fields: object) -> tuple[str, str]:
    answer = api.call("POST", "/api/certorbit/v1/api-keys", document={"name": "another", **fields})
    assert answer.status == 201
    return answer.json["id"], answer.json["key"]


def status_with(api: API, secret: str) -> int:
    return api.call("GET", CERTS, key=None, headers={"Authorization": f"Bearer {secret}"}).status


def test_a_revoked_key_is_refused_at_once_though_it_was_just_used(api: API) -> None:
    key_id, secret = make_key(api)
    assert status_with(api, secret) == 200
    assert api.call("DELETE", f"/api/certorbit/v1/api-keys/{key_id}").status == 204
    assert status_with(api, secret) == 401


def test_a_key_revoked_by_another_process_is_refused_within_two_seconds(api: API) -> None:
    key_id, secret = make_key(api)
    assert status_with(api, secret) == 200
    asyncio.run(api.parts.store.write(lambda tx: revoke_key(tx, APIKeyID(key_id), now=api.clock.now())))
    assert status_with(api, secret) == 200, "it is remembered"
    api.clock.advance(2.1)
    assert status_with(api, secret) == 401


MAINTENANCE = {
    "message": "System is under maintenance. Create, update, and delete requests are not allowed until upgrade is done."
}


def test_in_maintenance_every_write_is_refused_after_the_key_is_checked(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with run_api(tmp_path_factory.mktemp("api"), maintenance=True) as api:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            for path in (f"{CERTS}/a", "/api/v4/conf/prod/certificates/a/", "/api/certorbit/v1/api-keys", "/api/no"):
                answer = api.call(method, path, body=b"{garbage")
                assert (answer.status, answer.json) == (403, MAINTENANCE)
                assert_error(api.call(method, path, key=None), 401)
        assert api.call("GET", CERTS).status == 200
        assert api.call("GET", f"{CERTS}/placeholder/pem").status == 200
