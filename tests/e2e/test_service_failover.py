"""Two real CAs with different roots, one of which goes away: the other one takes over, and it shows."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e.deployment import Deployment
from e2e.openssl import public_key_of_leaf, verify
from e2e.pebble import Pebble
from e2e.service import Client, Service, wait_until

CERTIFICATES = "/api/certorbit/v1/configs/prod/certificates"
ISSUER = """\
[[issuers]]
name = "{name}"
directory = "{directory}"
ca_bundle = "{bundle}"
contact = ["ops@example.com"]
"""
NewDeployment = Callable[[dict[str, str]], Deployment]
StartPebble = Callable[..., Pebble]


def start_with(folder: Path, deploy: NewDeployment, first: Pebble, second: Pebble) -> Service:
    settings = folder / "certorbit.toml"
    tables = [
        ISSUER.format(name=name, directory=pebble.directory_url, bundle=pebble.ca_bundle)
        for name, pebble in (("first", first), ("second", second))
    ]
    settings.write_text("\n".join(tables))
    environment = {"CERTORBIT_SETTINGS": str(settings), "CERTORBIT_ACME_MAX_IN_FLIGHT": "12"}
    return deploy(environment).serve(http01_port=first.http01_port)


def list_versions(client: Client, entry_id: str) -> list[dict[str, Any]]:
    answer = client.get(f"{CERTIFICATES}/{entry_id}/versions")
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer.json["items"]
    return items


def check_issued_by(pebble: Pebble, chain_pem: str, folder: Path) -> None:
    verify(chain_pem, root_pem=pebble.fetch_roots()[0], folder=folder)


def test_when_the_first_ca_goes_away_the_second_one_renews(
    deploy: NewDeployment, new_pebble: StartPebble, tmp_path: Path
) -> None:
    first = new_pebble()
    second = new_pebble(http01_port=first.http01_port)
    service = start_with(tmp_path, deploy, first, second)
    client = service.client
    assert client.generate("shop", "shop.example.com").status == 201
    before = client.certificate("shop").json
    check_issued_by(first, before["cert_body"], tmp_path)

    first.stop()
    answer = client.request("POST", f"{CERTIFICATES}/shop/renew")
    assert answer.status == 202, answer.body
    wait_until(lambda: len(list_versions(client, "shop")) == 2, what="a second version")
    new, old = list_versions(client, "shop")
    assert (new["issuer"], new["is_current"], old["issuer"], old["is_current"]) == ("second", True, "first", False)
    after = client.certificate("shop").json
    check_issued_by(second, after["cert_body"], tmp_path)
    assert public_key_of_leaf(after["cert_body"]) != public_key_of_leaf(before["cert_body"])
    assert client.operation(answer.json["operation"])["issuer"] == "second"


@pytest.mark.timeout(240)
def test_a_ca_that_dies_in_the_middle_of_an_order_is_followed_by_the_next_one(
    deploy: NewDeployment, new_pebble: StartPebble, tmp_path: Path
) -> None:
    first = new_pebble(sleep=True)  # it takes its time to validate, so that it can die meanwhile
    second = new_pebble(http01_port=first.http01_port)
    service = start_with(tmp_path, deploy, first, second)
    client = service.client
    with ThreadPoolExecutor(1) as pool:
        post = pool.submit(client.generate, "web", "web.example.com")
        service.wait_event("order.proving")
        first.stop()
        assert post.result(timeout=60).status == 201
    wait_until(lambda: client.certificate("web").json["cert_body"], what="a certificate from the second CA")
    check_issued_by(second, client.certificate("web").json["cert_body"], tmp_path)
    (operation,) = client.operations("web")
    assert (operation["state"], operation["issuer"], operation["attempt"]) == ("succeeded", "second", 2)
    assert second.count_new_orders() == 1
