"""The examples of docs/targets/envoy.md are taken by Certorbit and by Envoy."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from certorbit.target_settings import EnvoyTargetSettings
from certorbit.target_settings.envoy import EnvoyListenerTable
from make import make_certificate, make_key, pem, write_key
from targets.envoy_process import find_envoy

PAGE = (Path(__file__).parents[2] / "docs" / "targets" / "envoy.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("toml")[:2], ids=["sds", "files"])
def test_the_settings_are_good(block: str) -> None:
    (table,) = tomllib.loads(block)["targets"]
    settings = EnvoyTargetSettings.model_validate(table)
    named = re.findall(r"name: (https-[a-z0-9]+)", blocks("yaml")[settings.mode == "files"])
    assert named == list(settings.listeners[0].secrets)


def test_every_setting_is_explained() -> None:
    own = set(EnvoyTargetSettings.model_fields) - {"type", "name", "host", "configurations", "timeout_seconds"}
    missing = {name for name in own if f"`{name}`" not in PAGE and f"`{name} =" not in PAGE}
    assert missing <= {"region", "load_balancer", "grace_seconds"}  # what all targets have


def validate(config: str, folder: Path) -> None:
    (folder / "envoy.yaml").write_text(config)
    run = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", str(folder / "envoy.yaml"), "--disable-hot-restart"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]


def write_proxy_files(folder: Path) -> None:
    key = make_key()
    for name in ("proxy.pem", "server-ca.pem"):
        (folder / name).write_text(pem(make_certificate(key=key, subject="CN=edge-1")))
    (folder / "proxy.key").write_text(write_key(key))


def test_envoy_takes_its_side_of_sds(tmp_path: Path) -> None:
    write_proxy_files(tmp_path)
    validate(blocks("yaml")[0].replace("/etc/envoy/certorbit", str(tmp_path)), tmp_path)


def test_envoy_takes_the_check_of_clients(tmp_path: Path) -> None:
    whole, _, check = blocks("yaml")
    demand = check.splitlines()[1]
    context = check.splitlines()[-1].strip()
    (listener,) = tomllib.loads(blocks("toml")[2])["targets"]["listeners"]
    settings = EnvoyListenerTable.model_validate(listener)
    assert demand == f"require_client_certificate: {str(settings.require_client_certificate).lower()}"
    assert f"{{name: {settings.clients_secret}," in context
    common = "          common_tls_context:\n            tls"
    assert whole.count(common) == 1
    last = "            - {name: https-3, sds_config: *certorbit}\n"
    config = whole.replace(common, f"          {demand}\n{common}").replace(last, f"{last}            {context}\n")
    write_proxy_files(tmp_path)
    validate(config.replace("/etc/envoy/certorbit", str(tmp_path)), tmp_path)


def test_envoy_takes_the_files(tmp_path: Path) -> None:
    whole, files = blocks("yaml")[:2]
    start = whole.index("            tls_certificate_sds_secret_configs:")
    end = whole.index("      filters:\n")
    inner = "".join(f"            {line}\n" for line in files.splitlines())
    config = (whole[:start] + inner + whole[end:]).partition("  - name: certorbit\n")[0]
    for name in ("https-default.json", "https-1.json"):
        (tmp_path / name).write_text('{"resources": []}')
    validate(config.replace("/etc/envoy/secrets", str(tmp_path)), tmp_path)
