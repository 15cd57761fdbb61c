"""The maintenance mode, switched while the service runs."""

import asyncio
from dataclasses import replace

import pytest

from api.server import API, CERTS, run_api, serve
from api.shapes import assert_error, assert_validation
from certorbit.api.app import make_app
from certorbit.api.maintenance import MaintenanceSwitch
from certorbit.model.read_only import ReadOnlyMode

PATH = "/api/certorbit/v1/maintenance"
REFUSED = {
    "message": "System is under maintenance. Create, update, and delete requests are not allowed until upgrade is done."
}


def switch(api: API, *, on: bool, key: str = "admin") -> dict[str, object]:
    answer = api.call("POST", PATH, key=key, document={"on": on})
    assert answer.status == 200, answer.body
    document: dict[str, object] = answer.json
    return document


def test_it_is_off_until_an_administrator_switches_it(fresh_api: API) -> None:
    off = {"on": False, "is_forced": False, "since": None, "by": ""}
    assert fresh_api.call("GET", PATH, key="reader").json == off
    on = {"on": True, "is_forced": False, "since": "2026-11-24T12:00:00.000Z", "by": "admin"}
    assert switch(fresh_api, on=True) == on
    fresh_api.clock.advance(60)
    assert switch(fresh_api, on=True, key="admin-no-export") == on, "repeating it changes nothing"
    assert fresh_api.call("GET", PATH, key="reader").json == on
    for path in (f"{CERTS}/a", "/api/v4/conf/prod/certificates/a/", "/api/v4.3/tools/publish/prod", "/api/no"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = fresh_api.call(method, path, body=b"{garbage")
            assert (answer.status, answer.json) == (403, REFUSED)
            assert_error(fresh_api.call(method, path, key=None), 401)
    assert fresh_api.call("GET", CERTS).status == 200
    assert switch(fresh_api, on=False)["since"] == "2026-11-24T12:01:00.000Z"
    assert_error(fresh_api.call("DELETE", f"{CERTS}/unknown"), 404)


def test_only_an_administrator_switches_it_and_only_by_its_own_method(fresh_api: API) -> None:
    switch(fresh_api, on=True)
    assert_error(fresh_api.call("POST", PATH, key="reader", document={"on": False}), 403, says="administer")
    assert fresh_api.call("PUT", PATH, document={"on": False}).json == REFUSED
    assert_validation(fresh_api.call("POST", PATH, document={"on": "off"}), "body", "on")
    assert_validation(fresh_api.call("POST", PATH, document={}), "body", "on")
    assert fresh_api.call("GET", PATH).json["on"] is True


def test_other_nodes_follow_within_two_seconds(fresh_api: API) -> None:
    with serve(make_app(fresh_api.parts)) as port:
        other = replace(fresh_api, port=port)
        assert_error(other.call("DELETE", f"{CERTS}/unknown"), 404)
        switch(fresh_api, on=True)
        assert fresh_api.call("DELETE", f"{CERTS}/unknown").json == REFUSED
        fresh_api.clock.advance(2.1)
        assert other.call("DELETE", f"{CERTS}/unknown").json == REFUSED
        assert other.call("GET", PATH).json["on"] is True
        switch(other, on=False)
        assert_error(other.call("DELETE", f"{CERTS}/unknown"), 404)


def test_the_setting_wins_over_the_switch(tmp_path_factory: pytest.TempPathFactory) -> None:
    with run_api(tmp_path_factory.mktemp("api"), maintenance=True) as api:
        assert api.call("GET", PATH).json == {"on": True, "is_forced": True, "since": None, "by": ""}
        assert_error(api.call("POST", PATH, document={"on": False}), 400, says="CERTORBIT_MAINTENANCE")
        assert api.call("DELETE", f"{CERTS}/unknown").json == REFUSED


class HeldStore:
    """Answers a read with the mode of the moment when it was asked, once the gate is open."""

    def __init__(self) -> None:
        self.mode = ReadOnlyMode(on=False)
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def read(self, work: object) -> ReadOnlyMode:
        mode = self.mode
        self.asked.set()
        await self.gate.wait()
        return mode

    async def write(self, work: object) -> ReadOnlyMode:
        self.mode = ReadOnlyMode(on=True)
        return self.mode


async def test_what_was_read_before_a_switch_is_not_remembered_after_it(shared_api: API) -> None:
    store = HeldStore()
    switch = MaintenanceSwitch(store=store, clock=shared_api.clock, is_forced=False)  # type: ignore[arg-type]
    under_way = asyncio.create_task(switch.is_on())
    await store.asked.wait()
    await switch.turn(on=True, by="admin")
    store.gate.set()
    assert await under_way is True
    assert await switch.is_on() is True
