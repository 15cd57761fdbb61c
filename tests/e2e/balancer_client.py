"""The load balancer side of the API, as clients of contract.md use it."""

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2e.service import Answer, Client, wait_until

NATIVE = "/api/certorbit/v1"
Item = Mapping[str, Any]


@dataclass(frozen=True)
class BalancerClient:
    """Requests in one dialect. What lists show comes back as it is."""

    client: Client
    dialect: str = "v4.3"
    config: str = "prod"

    @property
    def at(self) -> str:
        return f"/api/{self.dialect}/conf/{self.config}"

    def list(self) -> list[dict[str, Any]]:
        answer = self.client.get(f"{self.at}/load-balancers")
        assert answer.status == 200, answer.body
        assert answer.json["total"] == len(answer.json["items"])
        items: list[dict[str, Any]] = answer.json["items"]
        return items

    def listener(self, name: str) -> dict[str, Any]:
        """Return the listener's item."""
        (found,) = [item for item in self.list() if item["listener_name"] == name]
        return found

    def wait_listed(self, name: str) -> dict[str, Any]:
        """Return the listener's item as soon as the service has looked at its targets."""
        wait_until(lambda: any(item["listener_name"] == name for item in self.list()), what=f"{name} is listed")
        return self.listener(name)

    def attach(self, item: Item, entry_id: str, *, default: bool = False, **more: str) -> Answer:
        query = {**_place(item), "default": str(default).lower(), "elbv2": "true", **more}
        return self.client.request(
            "PUT", f"{self.at}/load-balancers/{item['name']}/certificates/{entry_id}?{urllib.parse.urlencode(query)}"
        )

    def detach(self, item: Item, certificate: str) -> Answer:
        """certificate: an id or a link."""
        query = {**_place(item), "certificate-id": certificate, "elbv2": "true"}
        return self.client.request(
            "DELETE", f"{self.at}/load-balancers/{item['name']}/certificates?{urllib.parse.urlencode(query)}"
        )

    def shows(self, item: Item, entry_id: str) -> bool:
        """Return whether the listener shows the certificate, by the rule that clients look for it."""
        return any(is_link_of(link, entry_id) for link in item["certificates"])

    def deployments(self, entry_id: str) -> dict[str, Any]:
        """Return the certificate's deployments, newest first, and where it is attached."""
        answer = self.client.get(f"{NATIVE}/configs/{self.config}/certificates/{entry_id}/deployments")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found

    def attachments(self, entry_id: str) -> dict[str, dict[str, Any]]:
        """Return where the certificate is attached, by the listener's name."""
        return {row["listener"]["listener"]: row for row in self.deployments(entry_id)["attachments"]}

    def deploy_now(self, entry_id: str) -> Answer:
        return self.client.request("POST", f"{NATIVE}/configs/{self.config}/certificates/{entry_id}/deployments")

    def renew(self, entry_id: str) -> Answer:
        return self.client.request("POST", f"{NATIVE}/configs/{self.config}/certificates/{entry_id}/renew")

    def fingerprints(self, entry_id: str) -> dict[str, str]:
        """Return the leaf's fingerprint by version, newest first."""
        answer = self.client.get(f"{NATIVE}/configs/{self.config}/certificates/{entry_id}/versions")
        assert answer.status == 200, answer.body
        return {item["id"]: item["fingerprint"] for item in answer.json["items"]}

    def wait_deployment(self, entry_id: str, state: str, *, count: int = 1, seconds: float = 60.0) -> dict[str, Any]:
        """Return the certificate's newest deployment when it is in the state and there are at least `count`."""

        def find() -> dict[str, Any] | None:
            found = self.deployments(entry_id)
            newest: dict[str, Any] | None = next(iter(found["items"]), None)
            return newest if found["total"] >= count and newest is not None and newest["state"] == state else None

        found: dict[str, Any] = wait_until(find, seconds=seconds, what=f"deployment {count} of {entry_id} is {state}")
        return found


def is_link_of(link: str, entry_id: str) -> bool:
    """Return whether a client finds the certificate by this link (contract.md)."""
    last = link.rsplit("/", 1)[-1]
    return last == entry_id or last.endswith(f"-{entry_id}")


def _place(item: Item) -> dict[str, str]:
    return {
        "provider": str(item["provider"]),
        "region": str(item["region"]),
        "listener": str(item["listener_name"]),
        "listener-port": str(item["listener_port"]),
    }
