"""The commands for targets, load balancers and deployments against a real service.

Its target is a directory; what serves from it is a TLS server of the tests. Commands run in this process, which spares
each one the second that a new one takes; `--local` runs as a program, for it reads settings and makes targets.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from certorbit.cli.main import app
from e2e.conftest import NewDeployment
from e2e.file_server import running_file_server
from e2e.service import API_KEY, Client, free_port, wait_until


@dataclass
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_command(environment: dict[str, str], folder: Path, *arguments: str) -> Ended:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
    ended = subprocess.run(
        [sys.executable, "-m", "certorbit", *arguments],
        env=clean | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@dataclass
class Scene:
    """A service with a directory target, `files`, of two listeners: `web` is served from, `dark` is not."""

    client: Client
    folder: Path

    def run(self, *arguments: str, code: int = 0) -> Ended:
        environment = {"CERTORBIT_URL": self.client.url, "CERTORBIT_API_KEY": API_KEY}
        result = CliRunner().invoke(app, arguments, env=environment)
        assert result.exit_code == code, result.output
        return Ended(result.exit_code, result.stdout, result.stderr)

    def generate(self, *names: str) -> None:
        for name in names:
            assert self.client.generate(name, f"{name}.example.com").status == 201
            self.client.wait_issued(name)

    def stage_of(self, name: str) -> list[str]:
        document = self.run("deployments", "of", "prod", name, "--json").json
        return [attachment["stage"] for attachment in document["attachments"]]


def target_table(folder: Path, *, web: int, dark: int) -> dict[str, object]:
    return {
        "type": "directory",
        "name": "files",
        "directory": str(folder / "out"),
        "host": "127.0.0.1",
        "grace_seconds": 0.5,
        "listeners": [{"name": "web", "port": web}, {"name": "dark", "port": dark}],
    }


@pytest.fixture
def scene(deploy: NewDeployment, tmp_path: Path) -> Iterator[Scene]:
    web, dark = free_port(), free_port()
    table = target_table(tmp_path, web=web, dark=dark)
    with running_file_server(tmp_path / "out" / f"web-{web}", port=web):
        service = deploy({"CERTORBIT_TARGETS": json.dumps([table])}).serve()
        yield Scene(service.client, tmp_path)


def test_a_certificate_is_attached_proven_renewed_and_detached(scene: Scene) -> None:
    row = ["files", "directory", "link11", "all", "2"]
    wait_until(lambda: scene.run("targets", "list").out.splitlines()[1].split()[:5] == row, what="the first look")
    assert scene.run("targets", "check").out.splitlines() == [
        "files",
        f"  ok  write  The service may write in {scene.folder}/out.",
    ]
    assert scene.run("targets", "check", "files", "--json").json["items"][0]["ok"] is True
    scene.generate("shop")
    assert "attached nowhere" in scene.run("deploy", "prod", "shop").out

    attached = scene.run("attach", "prod", "shop", "--load-balancer", "files", "--listener", "web").out
    first = attached.splitlines()[1].split()
    assert first[0].startswith("files/files/web:")
    assert first[1:3] == ["attached", "proven"]
    assert first[4] == "served"
    assert scene.run("attach", "prod", "shop", "--load-balancer", "files", "--listener", "web").out == attached

    rows = {line.split()[4]: line.split() for line in scene.run("load-balancers", "list", "prod").out.splitlines()[1:]}
    assert rows["web"][-1] == "shop"
    assert rows["dark"][-1] == "-"

    operation = scene.run("renew", "prod", "shop", "--json").json["operation"]
    wait_until(lambda: scene.client.operation(operation)["state"] == "succeeded", what="renewed")
    version = scene.run("versions", "prod", "shop", "--json").json["items"][0]["id"]
    wait_until(
        lambda: version in scene.run("deployments", "of", "prod", "shop").out.splitlines()[1], what="deployed again"
    )
    listed = scene.run("deployments", "list", "--config", "prod", "--state", "succeeded").out.splitlines()
    assert [line.split()[-4:] for line in listed[1:]] == [["1", "1", "proven", "-"]] * 2
    shown = scene.run("deployments", "show", listed[1].split()[0]).out
    assert "state:        succeeded, attempt 1" in shown
    assert version in shown

    started = scene.run("deploy", "prod", "shop").out
    assert started.startswith("Started: deployment ")
    again = started.split()[-1].rstrip(".")
    wait_until(lambda: scene.client.operation(again)["state"] == "succeeded", what="deployed")

    off = ("detach", "prod", "shop", "--load-balancer", "files", "--listener", "web")
    assert scene.run(*off).out == "shop is off files.\n"
    assert scene.run(*off).out == "shop was not attached to files; nothing was done.\n"
    assert scene.run(*off, "--json").json["attachments"] == []
    assert scene.run("deployments", "of", "prod", "shop").out.startswith("The certificate is attached nowhere.")


def test_a_detachment_that_fails_for_good_says_why(scene: Scene) -> None:
    scene.generate("shop")
    scene.run("attach", "prod", "shop", "--load-balancer", "files", "--listener", "web")
    (scene.folder / "out").rename(scene.folder / "away")
    (scene.folder / "out").write_text("a file, not a folder")
    ended = scene.run("detach", "prod", "shop", "--load-balancer", "files", "--listener", "web", code=1)
    assert ended.out == ""
    assert "Not a directory" in ended.err
    listed = scene.run("operations", "list", "--certificate", "shop", "--json").json["items"]
    assert "Not a directory" in scene.run("operations", "show", listed[0]["id"]).out


def test_a_renewal_is_waited_for(scene: Scene) -> None:
    scene.generate("shop")
    ended = scene.run("renew", "prod", "shop", "--wait")
    first, *shown = ended.out.splitlines()
    operation = first.split()[-1]
    assert first == f"Started: operation {operation}. How it goes: certorbit operations show {operation}"
    assert f"operation:    {operation}" in shown
    assert "state:        succeeded, attempt 1" in shown
    assert scene.run("operations", "list", "--certificate", "shop").out.splitlines()[1].split()[0] == operation


def test_what_is_not_served_is_refused_with_the_handshakes_words(scene: Scene) -> None:
    scene.generate("shop")
    ended = scene.run("attach", "prod", "shop", "--load-balancer", "files", "--listener", "dark", code=1)
    assert "does not serve 'shop'" in ended.err
    assert "connection refused" in ended.err
    assert ended.out == ""
    operation = scene.run("deployments", "list", "--json").json["items"][0]["id"]
    shown = scene.run("deployments", "show", operation).out
    assert "rolled_back" in shown
    assert "NOT SERVED" in shown
    assert "asked for shop.example.com: connect: connection refused" in shown
    assert scene.stage_of("shop") == []


def test_what_cant_be_meant_is_refused_in_one_line(scene: Scene) -> None:
    scene.generate("shop")
    for arguments, words in (
        (("attach", "prod", "shop", "--load-balancer", "files"), "has several listeners that fit"),
        (("attach", "prod", "shop", "--load-balancer", "nowhere"), "There is no load balancer 'nowhere' of link11"),
        (
            ("attach", "prod", "nothing", "--load-balancer", "files", "--listener", "web"),
            "There is no certificate 'nothing'",
        ),
        (("detach", "prod", "nothing", "--load-balancer", "files", "--listener", "web"), "is no certificate"),
        (("deployments", "show", "nothing"), "There is no deployment 'nothing'"),
        (("deployments", "of", "other", "shop"), "other"),
        (("targets", "check", "nothing"), "There is no target 'nothing' in the settings; there are: files."),
    ):
        ended = scene.run(*arguments, code=1)
        assert words in ended.err
        assert ended.err.count("\n") == 1
        assert ended.out == ""


def test_targets_are_checked_from_the_settings_alone(tmp_path: Path) -> None:
    table = target_table(tmp_path, web=443, dark=444)
    (tmp_path / "taken").write_text("a file, not a folder")
    broken = table | {"name": "broken", "directory": str(tmp_path / "taken" / "out")}
    environment = {"CERTORBIT_TARGETS": json.dumps([table, broken]), "CERTORBIT_DATA_DIR": str(tmp_path / "data")}

    good = run_command(environment, tmp_path, "targets", "check", "--local", "files")
    assert (good.code, good.err) == (0, "")
    assert good.out.splitlines() == ["files", f"  ok  write  The service may write in {tmp_path}/out."]

    both = run_command(environment, tmp_path, "targets", "check", "--local", "--json")
    assert both.code == 1
    assert [(item["target"], item["ok"]) for item in both.json["items"]] == [("files", True), ("broken", False)]
    assert both.err == "certorbit: 1 of 2 targets can't be used: broken.\n"

    unknown = run_command(environment, tmp_path, "targets", "check", "--local", "other")
    assert (unknown.code, unknown.out) == (1, "")
    assert "There is no target 'other' in the settings; there are: files, broken." in unknown.err
    nothing = run_command({"CERTORBIT_DATA_DIR": str(tmp_path / "data")}, tmp_path, "targets", "check", "--local")
    assert nothing.code == 1
    assert "no [[targets]] table" in nothing.err
    assert not (tmp_path / "data").exists()
