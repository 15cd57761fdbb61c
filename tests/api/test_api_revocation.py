"""`revoked` in every dialect, and the verdict behind it: over HTTP, from a real list on a real web server."""

import asyncio
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from api.material import make_leaf
from api.server import API, CERTS
from api.shapes import assert_error, assert_validation
from certorbit.api.revocation import VerdictBody
from certorbit.model.crl import Verdict
from certorbit.model.entry import Entry
from certorbit.model.operation import Operation
from certorbit.net.fetch import GuardedFetcher
from certorbit.ports.store import UnitOfWork
from certorbit.revocation.lists import CRLLists
from certorbit.revocation_settings import RevocationSettings
from certorbit.services import revocation
from certorbit.services.permitting import ConfigIssuers
from certorbit.workflows.revocation_look import RevocationLook
from fakes.clock import FakeChance
from hostile_web import Web, run_web
from make import make_crl, revoke

NATIVE = "/api/certorbit/v1/configs/prod/certificates"
DIALECTS = ("v4", "v4.0", "v4.3")
PATH = "/ca.crl"


@pytest.fixture
def api(fresh_api: API) -> API:
    return fresh_api


def look(api: API, web: Web) -> RevocationLook:
    """Return the look as a worker beside this API has it."""
    parts = api.parts
    lists = CRLLists(
        store=parts.store,
        fetcher=GuardedFetcher(web.rules()),
        own=None,
        settings=RevocationSettings(),
        clock=api.clock,
        chance=FakeChance(),
        metrics=parts.metrics,
    )

    def replace(tx: UnitOfWork, entry: Entry, *, verdict: Verdict, is_news: bool, now: datetime) -> Operation | None:
        return revocation.replace_revoked(
            tx,
            entry,
            verdict=verdict,
            is_news=is_news,
            issuers=ConfigIssuers(parts.issuers),
            now=now,
            new_id=parts.new_id,
        )

    return RevocationLook(store=parts.store, source=lists, clock=api.clock, replace=replace, metrics=parts.metrics)


def run(api: API, *, is_revoked: bool = True, hours: int = 168, later: timedelta = timedelta(0)) -> None:
    """Upload `shop`, let its CA publish a list that is valid for some hours, and let the look come round."""

    async def work() -> None:
        async with run_web() as web:
            leaf = make_leaf(api.ca, "www.example.test", cdp=web.url(PATH))
            assert (await asyncio.to_thread(api.upload, "shop", leaf)).status == 201
            now = api.clock.now()
            entry = revoke(leaf.certificate.serial_number, reason=x509.ReasonFlags.key_compromise)
            der = make_crl(
                api.ca.certificate,
                api.ca.key,
                revoked=[entry] if is_revoked else [],
                start=now,
                end=now + timedelta(hours=hours),
            )
            web.say(PATH, der)
            api.clock.advance(later.total_seconds())
            assert await look(api, web).sweep() == int(is_revoked and later < timedelta(hours=hours))

    asyncio.run(work())


def shown(api: API, dialect: str) -> tuple[bool, bool]:
    """Return `revoked` of `shop` as a list shows it, and alone."""
    path = CERTS.replace("v4.0", dialect)
    listed = {item["id"]: item["revoked"] for item in api.call("GET", path).json["items"]}
    assert listed["placeholder"] is False
    return listed["shop"], api.call("GET", f"{path}/shop").json["revoked"]


def verdict(api: API, query: str = "") -> dict[str, object]:
    answer = api.call("GET", f"{NATIVE}/shop/revocation{query}", key="reader")
    assert answer.status == 200, answer.body
    VerdictBody.model_validate(answer.json)
    document: dict[str, object] = answer.json
    return document


def test_a_certificate_on_its_issuer_s_list_is_revoked_in_every_dialect_and_a_replacement_is_started(api: API) -> None:
    run(api)
    assert {dialect: shown(api, dialect) for dialect in DIALECTS} == dict.fromkeys(DIALECTS, (True, True))
    found = verdict(api)
    assert (found["verdict"], found["revoked"], found["reason"]) == ("revoked", True, "keyCompromise")
    assert found["revoked_at"] == "2026-11-23T12:00:00.000Z"
    assert found["sources"] == found["cdp"]
    (operation,) = api.call("GET", "/api/certorbit/v1/operations?entry=shop").json["items"]
    assert (operation["kind"], operation["state"]) == ("replace", "queued")
    (event,) = [line for line in api.log_events() if line["event"] == "certificate.revoked"]
    assert (event["entry"], event["replacement"]) == ("shop", operation["id"])


def test_one_that_is_not_on_it_is_good_and_that_has_an_age_and_an_end(api: API) -> None:
    run(api, is_revoked=False)
    assert {dialect: shown(api, dialect) for dialect in DIALECTS} == dict.fromkeys(DIALECTS, (False, False))
    api.clock.advance(hours=2)
    found = verdict(api)
    assert (found["verdict"], found["revoked"], found["age_seconds"]) == ("good", False, 7200)
    api.clock.advance(days=8)
    stale = verdict(api)
    assert (stale["verdict"], stale["revoked"]) == ("unknown", False)
    assert "ended at" in str(stale["problems"])


def test_a_stale_list_says_nothing_even_if_it_has_the_certificate(api: API) -> None:
    run(api, hours=1, later=timedelta(hours=1))
    assert {dialect: shown(api, dialect) for dialect in DIALECTS} == dict.fromkeys(DIALECTS, (False, False))
    found = verdict(api)
    assert (found["verdict"], found["sources"]) == ("unknown", [])
    assert "published no newer one" in str(found["problems"])


def test_what_was_not_looked_at_yet_and_what_never_is_say_so(api: API) -> None:
    leaf = make_leaf(api.ca, "www.example.test")
    assert api.upload("shop", leaf).status == 201
    found = verdict(api)
    assert (found["verdict"], found["checked_at"], found["age_seconds"]) == ("unknown", None, None)
    assert found["problems"] == ["It was not looked at yet."]
    assert verdict(api, f"?version={found['version']}") == found
    bundle = api.call("POST", f"{CERTS}/bundle", document={"cert_body": api.ca.cert_pem, "side": "clientCA"})
    assert bundle.status == 201
    shown_bundle = api.call("GET", f"{NATIVE}/bundle/revocation").json
    assert "Certificates of this kind" in shown_bundle["problems"][0]


def test_unknown_certificates_and_versions_are_told(api: API) -> None:
    run(api, is_revoked=False)
    assert_error(api.call("GET", f"{NATIVE}/nowhere/revocation"), 404, says="nowhere")
    assert_error(api.call("GET", f"{NATIVE}/shop/revocation?version=v-none"), 404, says="v-none")
    assert_validation(api.call("GET", f"{NATIVE}/shop/revocation?version=a%20b"), "query", "version")
    assert api.call("GET", f"{NATIVE}/shop/revocation", key=None).status == 401
