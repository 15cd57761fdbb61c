"""Regions of the operator's own load balancers, in every dialect."""

from typing import Any

import pytest

from api.balancing import add_listener
from api.server import API, run_api
from api.shapes import assert_error, assert_validation
from certorbit.region_settings import CITY_CODES

DIALECTS = ("v4", "v4.0", "v4.3")
# The codes that public clients know; they send all of them.
KNOWN = ["ams", "ash", "ffm", "hkg", "lax", "lon", "nyc", "sgp", "stl"]
ALL_AUTOMATIC = dict.fromkeys(KNOWN, "automatic")


def regions(dialect: str = "v4.3", config: str = "prod") -> str:
    return f"/api/{dialect}/conf/{config}/load-balancers/regions"


@pytest.fixture
def balanced(fresh_api: API) -> API:
    """Two load balancers of the operator's own, one with two listeners, and one of a cloud."""
    add_listener(fresh_api, target="edge-a", load_balancer="lb-a")
    add_listener(fresh_api, target="edge-a", load_balancer="lb-a", listener="other")
    add_listener(fresh_api, target="edge-b", load_balancer="lb-b")
    add_listener(fresh_api, target="cloud", load_balancer="alb", provider="aws")
    return fresh_api


def lbs(api: API) -> dict[str, Any]:
    return {balancer["id"]: balancer["regions"] for balancer in api.call("GET", regions()).json["lbs"]}


def post(api: API, *balancers: dict[str, Any], dialect: str = "v4.3") -> Any:
    return api.call("POST", regions(dialect), document={"lbs": list(balancers)})


@pytest.mark.parametrize("dialect", DIALECTS)
def test_at_first_every_city_is_automatic(balanced: API, dialect: str) -> None:
    answer = balanced.call("GET", f"{regions(dialect)}/")
    assert answer.status == 200
    assert answer.json == {
        "city_codes": CITY_CODES,
        "lbs": [
            {"id": "edge-a", "name": "lb-a", "regions": ALL_AUTOMATIC, "upstream_regions": KNOWN},
            {"id": "edge-b", "name": "lb-b", "regions": ALL_AUTOMATIC, "upstream_regions": KNOWN},
        ],
    }
    assert sorted(CITY_CODES) == KNOWN


@pytest.mark.parametrize(("dialect", "body"), [("v4", b'{"message":"Successfully updated entry"}'), ("v4.3", b"")])
def test_what_is_not_named_becomes_automatic_of_the_load_balancers_named(
    balanced: API, dialect: str, body: bytes
) -> None:
    first = post(balanced, {"id": "edge-a", "regions": {"ams": "ffm", "lon": "nyc"}}, dialect=dialect)
    assert (first.status, first.body) == (200, body)
    both = post(
        balanced,
        {"id": "edge-a", "regions": {**ALL_AUTOMATIC, "hkg": "sgp"}},
        {"id": "edge-b", "regions": {"stl": "lax"}},
    )
    assert both.status == 200
    assert lbs(balanced) == {
        "edge-a": {**ALL_AUTOMATIC, "hkg": "sgp"},
        "edge-b": {**ALL_AUTOMATIC, "stl": "lax"},
    }
    assert post(balanced, {"id": "edge-a"}).status == 200
    assert post(balanced).status == 200
    assert lbs(balanced) == {"edge-a": ALL_AUTOMATIC, "edge-b": {**ALL_AUTOMATIC, "stl": "lax"}}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"id": "nowhere", "regions": {}}, "no load balancer 'nowhere'"),
        ({"id": "cloud", "regions": {}}, "no load balancer 'cloud'"),
        ({"id": "edge-b", "regions": {"xyz": "automatic"}}, "'xyz' is the code of no city"),
        ({"id": "edge-b", "regions": {"ams": "mars"}}, "'mars' is no datacenter of the load balancer 'edge-b'"),
        ({"id": "edge-a", "regions": {"ams": "lon"}}, "'edge-a' is named twice"),
    ],
)
def test_what_is_unknown_is_refused_and_nothing_changes(balanced: API, bad: dict[str, Any], says: str) -> None:
    assert post(balanced, {"id": "edge-a", "regions": {"ams": "lon"}}).status == 200
    before = lbs(balanced)
    assert_error(post(balanced, {"id": "edge-a", "regions": {"nyc": "lon"}}, bad), 400, says=says)
    assert lbs(balanced) == before


def test_malformed_bodies_are_refused(balanced: API) -> None:
    assert_validation(balanced.call("POST", regions(), document={}), "body", "lbs")
    assert_validation(post(balanced, {"regions": {}}), "body", "lbs", 0, "id")
    assert_validation(post(balanced, {"id": "edge-a", "regions": {"ams": 1}}), "body", "lbs", 0, "regions", "ams")
    assert balanced.call("POST", regions(), body=b"").status == 422


def test_an_unknown_configuration_has_no_regions(balanced: API) -> None:
    assert_error(balanced.call("GET", regions(config="nowhere")), 404)
    assert_error(balanced.call("POST", regions(config="nowhere"), document={"lbs": []}), 404)


def test_who_may_only_read_chooses_no_datacenter(balanced: API) -> None:
    assert balanced.call("GET", regions(), key="reader").status == 200
    assert_error(balanced.call("POST", regions(), key="reader", document={"lbs": []}), 403)


def test_the_settings_say_which_datacenters_there_are(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("api")
    settings = {
        "city_codes": {"ams": "Amsterdam", "lon": "London"},
        "upstream_regions": ["dc1", "dc2"],
        "datacenters": {"edge-b": ["dc3"]},
    }
    with run_api(folder, regions=settings) as api:
        add_listener(api, target="edge-a", load_balancer="lb-a")
        add_listener(api, target="edge-b", load_balancer="lb-b")
        shown = api.call("GET", regions()).json
        assert shown["city_codes"] == {"ams": "Amsterdam", "lon": "London"}
        assert [balancer["upstream_regions"] for balancer in shown["lbs"]] == [["dc1", "dc2"], ["dc3"]]
        assert post(
            api, {"id": "edge-a", "regions": {"ams": "dc2"}}, {"id": "edge-b", "regions": {"lon": "dc3"}}
        ).status
        assert lbs(api) == {
            "edge-a": {"ams": "dc2", "lon": "automatic"},
            "edge-b": {"ams": "automatic", "lon": "dc3"},
        }
        assert_error(post(api, {"id": "edge-b", "regions": {"ams": "dc1"}}), 400, says="'dc1' is no datacenter")


@pytest.mark.parametrize("wrong", [{"city_codes": {"automatic": "A"}}, {"upstream_regions": [""]}, {"unknown": 1}])
def test_settings_that_would_mean_something_else_are_refused(
    tmp_path_factory: pytest.TempPathFactory, wrong: dict[str, Any]
) -> None:
    from pydantic import ValidationError

    from certorbit.region_settings import RegionSettings

    with pytest.raises(ValidationError):
        RegionSettings(**wrong)


def test_a_datacenter_that_the_settings_have_lost_is_automatic(tmp_path_factory: pytest.TempPathFactory) -> None:
    from certorbit.region_settings import RegionSettings
    from certorbit.services.regions import _effective

    rules = RegionSettings(city_codes={"ams": "Amsterdam", "lon": "London"}, upstream_regions=("dc2",))
    assert _effective({"ams": "dc1", "lon": "dc2", "nyc": "dc2"}, "edge", rules) == {"ams": "automatic", "lon": "dc2"}
