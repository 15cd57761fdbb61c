"""PUT /tools/publish/{config}, in every dialect."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from obstore.store import LocalStore

from api.material import make_leaf
from api.server import API, run_api, serve
from api.shapes import assert_error, assert_validation
from certorbit.api.app import make_app
from certorbit.api.publish import add_publish_routes
from certorbit.model.entry import ConfigID
from certorbit.publish_settings import BucketSettings, PublishSettings
from certorbit.publishing.publisher import Publisher
from certorbit.services import publish
from certorbit.services.publish import turn_of
from publishing.scene import READER, write_public

DIALECTS = ("v4", "v4.0", "v4.3")
RECIPIENT = X25519PrivateKey.generate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "edge"


@pytest.fixture
def api(tmp_path: Path, root: Path) -> Iterator[API]:
    """The API with two buckets."""
    with run_api(tmp_path) as running:
        publisher = Publisher(
            settings=PublishSettings(
                recipient_key=write_public(RECIPIENT),
                buckets=(
                    BucketSettings(name="main", url=f"file://{root}/main"),
                    BucketSettings(name="other", url=f"file://{root}/other"),
                ),
            ),
            store=running.parts.store,
            keyring=running.parts.keyring,
            transactions=publish,
            clock=running.clock,
            new_id=running.parts.new_id,
        )
        parts = replace(running.parts, publisher=publisher)
        app = make_app(parts)
        if not any(getattr(route, "path", "").endswith("/tools/publish/{config}") for route in app.routes):
            add_publish_routes(app, parts)
        with serve(app) as port:
            yield replace(running, port=port, parts=parts)


def path(dialect: str = "v4.3", config: str = "prod") -> str:
    return f"/api/{dialect}/tools/publish/{config}"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_bundle_is_in_every_bucket_when_the_answer_comes(api: API, root: Path, dialect: str) -> None:
    wanted = [{"name": name, "url": f"file://{root}/{name}", "more": 1} for name in ("other", "main")]
    answer = api.call("PUT", path(dialect), document=wanted)
    assert answer.status == 200
    assert answer.json == {
        "configuration": "prod",
        "version": "1",
        "unavailable": [],
        "buckets": [
            {"name": name, "url": f"file://{root}/{name}", "objects": 2, "written": 2, "removed": 0}
            for name in ("other", "main")
        ],
    }
    for name in ("main", "other"):
        files = read(root / name)
        assert sorted(files) == ["placeholder.pem", "sites.json"]


def read(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = READER.make_files(*READER.load_bundle(LocalStore(folder / "prod")), RECIPIENT)
    return files


@pytest.mark.parametrize("body", [b"[]", b"", b"  "])
def test_no_bucket_means_the_default_one(api: API, root: Path, body: bytes) -> None:
    answer = api.call("PUT", path(), body=body)
    assert answer.status == 200
    assert [bucket["name"] for bucket in answer.json["buckets"]] == ["main"]
    assert [place.name for place in root.iterdir()] == ["main"]


def test_what_clients_changed_is_published(api: API, root: Path) -> None:
    leaf = make_leaf(api.ca, "www.example.com")
    assert api.upload("shop", leaf).status == 201
    group = {"name": "shop", "server_names": ["www.example.com"], "ssl_certificate": "shop"}
    assert api.call("POST", "/api/v4.3/conf/prod/server-groups/shop", document=group).status == 201
    answer = api.call("PUT", path(), document=[])
    assert answer.json["version"] == api.call("GET", "/api/v4.3/conf/configs/prod").json["version"]
    files = read(root / "main")
    assert files["shop.pem"].decode() == leaf.key_pem + leaf.cert_pem + api.ca.cert_pem
    assert [site["ssl_certificate"] for site in json.loads(files["sites.json"])] == ["placeholder", "shop"]


@pytest.mark.parametrize(
    "bucket",
    [
        {"name": "main", "url": "file:///tmp/elsewhere"},
        {"name": "", "url": ""},
        {"name": "main", "url": ""},
        {"name": " ", "url": "s3://somebody-elses-bucket"},
    ],
)
def test_a_bucket_that_is_not_in_the_settings_is_refused_with_those_that_are(
    api: API, root: Path, bucket: dict[str, str]
) -> None:
    answer = api.call("PUT", path(), document=[bucket])
    assert_error(answer, 400, says="Allowed are 'main'")
    assert not root.exists()


@pytest.mark.parametrize(
    ("document", "loc"),
    [
        ({}, ("body",)),
        ("main", ("body",)),
        (["main"], ("body", 0)),
        ([{"name": "main"}], ("body", 0, "url")),
        ([{"name": 1, "url": "x"}], ("body", 0, "name")),
        ([{"name": "x", "url": "x"}] * 101, ("body",)),
    ],
)
def test_a_body_of_another_form_is_a_validation_error(api: API, document: object, loc: tuple[str | int, ...]) -> None:
    assert_validation(api.call("PUT", path(), document=document), *loc)


def test_an_unknown_configuration_is_not_found(api: API) -> None:
    assert_error(api.call("PUT", path(config="test"), document=[]), 404, says="'test'")
    assert_error(api.call("PUT", path(config="a%00b"), document=[]), 404, says="configuration")


def test_a_key_that_may_only_read_can_not_publish(api: API, root: Path) -> None:
    assert api.call("PUT", path(), key="reader", document=[]).status == 403
    assert api.call("PUT", path(), key=None, document=[]).status == 401
    assert not root.exists()


async def test_while_a_publish_runs_the_answer_is_the_contracts_503(api: API) -> None:
    now, config = api.clock.now(), ConfigID("prod")
    until = now + timedelta(seconds=60)
    await api.parts.store.write(lambda tx: tx.named_turns.take(turn_of(config), "somebody", now=now, until=until))
    answer = api.call("PUT", path(), document=[])
    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    message = answer.json["message"]
    assert "A publish of configuration 'prod' runs" in message
    assert (answer.json["detail"], answer.json["data"]) == (message, {"message": message})


def test_a_place_that_can_not_be_written_is_a_400_that_names_the_bucket(api: API, root: Path) -> None:
    root.mkdir()
    (root / "other").write_text("a file")
    wanted = [{"name": name, "url": f"file://{root}/{name}"} for name in ("main", "other")]
    assert_error(api.call("PUT", path(), document=wanted), 400, says="Written: 'main'. Not written: 'other'.")


def test_a_service_that_publishes_nothing_says_so(tmp_path: Path) -> None:
    with run_api(tmp_path) as running:
        app = make_app(running.parts)
        if not any(getattr(route, "path", "").endswith("/tools/publish/{config}") for route in app.routes):
            add_publish_routes(app, running.parts)
        with serve(app) as port:
            answer = replace(running, port=port).call("PUT", path(), document=[])
    assert_error(answer, 400, says="publishes nothing")
