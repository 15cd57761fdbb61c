"""How the API server is found and trusted: settings, kubeconfig, pod; and settings that can't work."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from certorbit.errors import CredentialsRefused, Unreachable
from certorbit.target_settings import GCPTargetSettings, KubernetesTargetSettings
from make import make_certificate, make_key, pem, write_key
from targets.kubernetes_bench import EDGE, LISTENERS, make_cluster_target, reach
from targets.kubernetes_stand_in import TOKEN, ClusterStandIn

CA_KEY, CLIENT_KEY = make_key(index=910), make_key(index=911)
CA = make_certificate(key=CA_KEY, subject="CN=clients", is_ca=True, days=3650)
CLIENT = make_certificate(key=CLIENT_KEY, subject="CN=certorbit", issuer=CA, issuer_key=CA_KEY, days=3650)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ClusterStandIn]:
    async with ClusterStandIn(tmp_path, clients=pem(CA)) as stand_in:
        yield stand_in


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write_kubeconfig(folder: Path, url: str, *, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": "ca.crt", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


USERS: dict[str, dict[str, Any]] = {
    "token": {"token": TOKEN},
    "token file": {"tokenFile": "token"},
    "client certificate": {
        "client-certificate-data": encode(pem(CLIENT)),
        "client-key-data": encode(write_key(CLIENT_KEY)),
    },
}


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
async def test_a_kubeconfig_leads_to_the_cluster(cluster: ClusterStandIn, tmp_path: Path, user: dict[str, Any]) -> None:
    target = make_cluster_target(kubeconfig=write_kubeconfig(tmp_path, cluster.url, user=user))
    assert (await target.look(EDGE)).default == ""
    await target.close()


BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "program": ({"exec": {"command": "aws"}}, {}, "programs that fetch tokens"),
    "trusts anybody": ({"token": "t"}, {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
    "plain http": ({"token": "t"}, {"server": "http://192.0.2.1"}, "must be https"),
    "no CA file": ({"token": "t"}, {"certificate-authority": "none.crt"}, r"none\.crt"),
    "no PEM": ({"token": "t"}, {"certificate-authority-data": "&"}, "not PEM in base64"),
    "no certificate": ({"token": "t"}, {"certificate-authority-data": encode("x")}, "no PEM certificate"),
    "no key": ({"client-certificate-data": encode(pem(CLIENT))}, {}, "client certificate and its key"),
}


@pytest.mark.parametrize(("user", "place", "says"), BROKEN.values(), ids=BROKEN)
async def test_a_kubeconfig_that_cant_be_used_says_why(
    cluster: ClusterStandIn, tmp_path: Path, user: dict[str, Any], place: dict[str, Any], says: str
) -> None:
    target = make_cluster_target(kubeconfig=write_kubeconfig(tmp_path, cluster.url, user=user, cluster=place))
    with pytest.raises(CredentialsRefused, match=says):
        await target.look(EDGE)
    await target.close()


@pytest.mark.parametrize("text", ["a: [", "1", "contexts: 5", "current-context: x"])
async def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    target = make_cluster_target(kubeconfig=path)
    with pytest.raises(CredentialsRefused, match="kubeconfig"):
        await target.look(EDGE)
    await target.close()


async def test_a_server_with_another_ca_is_not_spoken_to(cluster: ClusterStandIn, tmp_path: Path) -> None:
    (tmp_path / "other.crt").write_text(pem(CA))
    target = make_cluster_target(**{**reach(cluster, tmp_path), "ca_file": tmp_path / "other.crt"})
    with pytest.raises(Unreachable) as caught:
        await target.look(EDGE)
    assert caught.value.phase == "TLS"
    assert not cluster.requests
    await target.close()


async def test_outside_of_a_cluster_the_server_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    target = make_cluster_target()
    with pytest.raises(CredentialsRefused, match="Give server or kubeconfig"):
        await target.look(EDGE)
    await target.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"server": "http://192.0.2.1"}, "must be https"),
        ({"server": "https://user@host"}, "without user"),
        ({"server": "https://host", "kubeconfig": "/k"}, "not both"),
        ({"context": "x"}, "needs kubeconfig"),
        ({"token_file": "/t"}, "need server"),
        ({"listeners": [LISTENERS[0], {**LISTENERS[0], "name": "again"}]}, "same Secret"),
    ],
)
def test_settings_that_cant_work_are_refused(options: dict[str, Any], says: str) -> None:
    table = {"type": "kubernetes", "name": "cluster", "listeners": LISTENERS, **options}
    with pytest.raises(ValidationError, match=says):
        KubernetesTargetSettings.model_validate(table)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"endpoint_url": "http://192.0.2.1"}, "must be https"),
        ({"mode": "manager", "region": "europe-west3"}, "are global"),
        ({"token": "t", "credentials_file": "/f"}, "not both"),
        ({"project": "../x"}, "project"),
    ],
)
def test_google_settings_that_cant_work_are_refused(options: dict[str, Any], says: str) -> None:
    table = {"type": "gcp", "name": "cloud", "project": "example-project", **options}
    with pytest.raises(ValidationError, match=says):
        GCPTargetSettings.model_validate(table)
