"""Rotate a running service's key, back it up, lose it, restore it elsewhere: everything works, promises are kept."""

import os
import subprocess
import sys
from pathlib import Path

from e2e.conftest import NewDeployment
from e2e.deployment import Deployment, acme_environment
from e2e.fake_ca_thread import UNDECIDED, running_fake_ca
from e2e.service import Service, wait_until
from make import make_chain

PASSPHRASE = "correct horse battery staple"
KEYS = "/api/certorbit/v1/api-keys"


def run(deployment: Deployment, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours in a deployment's environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
    environment |= deployment.environment
    environment |= {
        "CERTORBIT_DATA_DIR": str(deployment.data_dir),
        "CERTORBIT_BACKUP_PASSPHRASE": PASSPHRASE,
    }
    return subprocess.run(
        [sys.executable, "-m", "certorbit", *command],
        env=environment,
        cwd=deployment.data_dir,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_service_is_lost_and_restored_elsewhere(deploy: NewDeployment, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with running_fake_ca() as ca:
        lost = deploy({**acme_environment(ca.directory_url), "CERTORBIT_ISSUANCE__WAIT": "0"})
        before = lost.serve()
        uploaded = make_chain()
        assert before.client.upload("own", uploaded.chain_pem, uploaded.key_pem).status == 201
        assert before.client.generate("issued", "issued.example.com").status == 201
        before.client.wait_issued("issued")

        rotated = run(lost, "keyring", "rotate")
        assert rotated.returncode == 0, rotated.stderr
        assert "New key-encryption key" in rotated.stdout
        shown = before.client.get("/api/certorbit/v1/keyring").json
        assert (len(shown["keys"]), shown["to_rewrap"], shown["unknown"]) == (2, 0, {})
        kept = {name: before.client.certificate(name).json["private_key"] for name in ("own", "issued")}
        assert kept["own"].strip() == uploaded.key_pem.strip(), "opens by a key that the process has just learned of"
        reader = before.client.request(
            "POST", KEYS, {"name": "reader", "role": "read-only", "may_export_keys": True}
        ).json["key"]
        lost.secrets.add(reader)

        ca.polls_before_decision = UNDECIDED
        assert before.client.generate("promised", "promised.example.com").status == 201
        wait_until(lambda: ca.count("challenge") >= 2, what="the CA was asked to look")
        made = run(lost, "backup", str(file), "--with-keyring")
        assert made.returncode == 0, made.stderr
        content = file.read_bytes()
        assert b"PRIVATE KEY" not in content
        assert reader.encode() not in content
        before.kill()
        ca.polls_before_decision = 0

        found = deploy({**acme_environment(ca.directory_url), "CERTORBIT_ISSUANCE__WAIT": "0"})
        restored = run(found, "restore", str(file))
        assert (restored.returncode, restored.stderr) == (0, "")
        after = found.serve()
        found.secrets.add(reader)
        client = after.client.with_key(reader)
        assert {name: client.certificate(name).json["private_key"] for name in kept} == kept
        after.client.wait_issued("promised")
        assert ca.count("new-order") == 2, "the order that was under way went on"
        assert after.client.certificate("promised").json["san"] == ["promised.example.com"]
        assert_no_core_dumps(after)


def assert_no_core_dumps(service: Service) -> None:
    assert service.process is not None
    limits = Path(f"/proc/{service.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]
