"""Client certificates by the API, as docs/mutual-tls.md shows it: a service process, a real nginx, clients that knock."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from e2e.conftest import NewDeployment
from e2e.service import Answer, Client
from make import pem
from targets.client_certificates import ClientCA, gets_in
from targets.nginx_process import RealNginx

CONF = "/api/v4.3/conf/prod"
BALANCER = f"{CONF}/load-balancers/web/certificates"
NAME, OTHER_NAME = "www.example.com", "other.example.com"


class Door:
    """The service's API and nginx's listener, from a test that waits for neither in the event loop."""

    def __init__(self, client: Client, port: int, folder: Path) -> None:
        self._client = client
        self.port = port
        ours, theirs = ClientCA(1), ClientCA(2)
        self.good, self.wrong = ours.issue(folder, "good"), theirs.issue(folder, "wrong")
        self.bundle = pem(ours.certificate)

    async def call(self, method: str, path: str, body: object = None) -> Answer:
        return await asyncio.to_thread(self._client.request, method, path, body)

    async def generate(self, entry_id: str, name: str) -> None:
        assert (await asyncio.to_thread(self._client.generate, entry_id, name)).status == 201
        await asyncio.to_thread(self._client.wait_issued, entry_id)

    async def attach(self, entry_id: str, **query: str) -> Answer:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return await self.call("PUT", f"{BALANCER}/{entry_id}?provider=link11&{asked}")

    async def lets_in(self, name: str = NAME) -> list[bool]:
        """Return whether a client gets in without a certificate, with a wrong one, with a good one."""
        return [await gets_in(self.port, name, client) for client in (None, self.wrong, self.good)]

    async def wait_for(self, seen: list[bool]) -> None:
        async with asyncio.timeout(60):
            while await self.lets_in() != seen:
                await asyncio.sleep(0.1)


async def put_group(door: Door, name: str, **fields: Any) -> None:
    answer = await door.call("PUT", f"{CONF}/server-groups/{name}", fields)
    assert answer.status == 200, answer.body


async def test_clients_of_an_nginx_listener_are_checked_by_the_api_alone(deploy: NewDeployment, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        nginx = RealNginx(stack, listeners=1, checks_clients=True)
        await nginx.start(stack)
        table = nginx.settings(grace_seconds=1.0).model_dump(mode="json", exclude_defaults=True) | {"type": "nginx"}
        service = await asyncio.to_thread(lambda: deploy({"CERTORBIT_TARGETS": json.dumps([table])}).serve())
        door = Door(service.client, nginx.ports[0], tmp_path)
        await door.generate("shop", NAME)
        await door.generate("other", OTHER_NAME)
        bundle = {"side": "clientCA", "cert_body": door.bundle}
        assert (await door.call("POST", f"{CONF}/certificates/partners", bundle)).status == 201
        group = {"id": "shop", "name": "Shop", "ssl_certificate": "shop", "client_certificate": "partners"}
        made = await door.call("POST", f"{CONF}/server-groups", group | {"client_certificate_mode": "on"})
        assert made.status == 201, made.body

        assert (await door.attach("shop", default="true")).status == 200
        assert await door.lets_in() == [False, False, True]

        refused = await door.attach("other")
        assert refused.status == 400
        assert "checks the clients of all of its certificates alike" in refused.json["message"]

        other = {"id": "other", "name": "Other", "ssl_certificate": "other", "client_certificate": "partners"}
        made = await door.call("POST", f"{CONF}/server-groups", other | {"client_certificate_mode": "on"})
        assert made.status == 201, made.body
        assert (await door.attach("other")).status == 200
        assert await door.lets_in(OTHER_NAME) == [False, False, True]

        await put_group(door, "other", client_certificate_mode="off")
        assert await door.lets_in() == [False, False, True]
        await put_group(door, "shop", client_certificate_mode="off")
        await door.wait_for([True, True, True])
