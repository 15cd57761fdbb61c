"""A restart without the CA's setting: nothing becomes the built-in CA's, and all goes on when the CA is back."""

from collections.abc import Callable
from typing import Any

from e2e.deployment import Deployment, pebble_environment
from e2e.pebble import Pebble
from e2e.service import Client, wait_until

CERTIFICATES = "/api/certorbit/v1/configs/prod/certificates"
NewDeployment = Callable[[dict[str, str]], Deployment]
StartPebble = Callable[..., Pebble]


def renewal(client: Client, entry_id: str) -> dict[str, Any]:
    answer = client.get(f"{CERTIFICATES}/{entry_id}/renewal")
    assert answer.status == 200, answer.body
    document: dict[str, Any] = answer.json
    return document


def versions(client: Client) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"{CERTIFICATES}/public/versions").json["items"]
    return items


def test_a_restart_without_the_ca_hands_nothing_to_the_built_in_one(
    deploy: NewDeployment, new_pebble: StartPebble
) -> None:
    pebble = new_pebble()
    deployment = deploy({})

    def serve_with(ca: Pebble) -> Client:
        return deployment.serve(http01_port=pebble.http01_port, more=pebble_environment(ca)).client

    client = serve_with(pebble)
    assert client.generate("public", "public.example.com").status == 201
    client.wait_issued("public")
    deployment.processes[-1].stop()

    lost = deployment.serve()
    told = lost.wait_event("renewal.no_issuer_at_start")
    assert (told["level"], told["certificates"], told["issuers"]) == ("warning", 1, ["acme"])
    shown = renewal(lost.client, "public")
    assert (shown["automatic"], shown["obstacle"], shown["renew_at"]) == (False, "no-issuer", None)
    refused = lost.client.request("POST", f"{CERTIFICATES}/public/renew")
    assert (refused.status, "Nobody may issue for 'public'" in refused.json["message"]) == (400, True)
    assert lost.client.generate("private", "private.example.com").status == 201
    lost.client.wait_issued("private")
    lost.stop()

    client = serve_with(pebble)
    assert renewal(client, "public")["automatic"]
    assert renewal(client, "private")["automatic"], "the built-in CA's own are renewed by whoever there is"
    assert client.request("POST", f"{CERTIFICATES}/public/renew").status == 202
    wait_until(lambda: len(versions(client)) == 2, what="a second version")
    assert [version["issuer"] for version in versions(client)] == ["acme", "acme"]
