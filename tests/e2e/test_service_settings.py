"""Wrong settings: the process ends with 1 and one clear line, before anything listens; no secret is repeated."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.service import API_KEY, Service, free_port

PASSWORD = "hunter2-in-a-url"


def run(folder: Path, environment: dict[str, str], *command: str) -> "subprocess.CompletedProcess[str]":
    """Run the service until it ends by itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
    ours = {"CERTORBIT_DATA_DIR": str(folder / "data"), "CERTORBIT_BOOTSTRAP_API_KEY": API_KEY, **environment}
    return subprocess.run(
        [sys.executable, "-m", "certorbit", *(command or ("serve", "--port", "0"))],
        env={**inherited, **ours},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_refused(done: "subprocess.CompletedProcess[str]", *says: str) -> None:
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith('{"event"')]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("certorbit: ")
    for words in says:
        assert words in lines[0]
    for secret in (API_KEY, PASSWORD, "Traceback"):
        assert secret not in done.stderr


CASES = [
    pytest.param({"CERTORBIT_ACME_DIRECTORY": "ftp://ca.example"}, ("'acme'", "directory"), id="directory-scheme"),
    pytest.param({"CERTORBIT_ACME_DIRECTORY": "https://"}, ("'acme'", "directory"), id="directory-without-host"),
    pytest.param(
        {"CERTORBIT_ACME_DIRECTORY": "https://ca.example/dir", "CERTORBIT_ACME_CA_BUNDLE": "/no/such.pem"},
        ("ca_bundle", "/no/such.pem"),
        id="bundle",
    ),
    pytest.param(
        {"CERTORBIT_ACME_DIRECTORY": "https://ca.example/dir", "CERTORBIT_ACME_EAB_KID": "kid"},
        ("eab_kid and eab_hmac_key go together",),
        id="half-a-binding",
    ),
    pytest.param(
        {"CERTORBIT_CONFIGURATIONS": '{"prod": {"issuers": ["zerossl"]}}'},
        ("configurations.prod", "no issuer named 'zerossl'; there are internal"),
        id="issuer-of-a-configuration",
    ),
    pytest.param({"CERTORBIT_DATABASE_URL": f"mysql://u:{PASSWORD}@h/n"}, ("database_url", "mysql"), id="database"),
    pytest.param({"CERTORBIT_DATABASE_URL": PASSWORD}, ("database_url is no URL",), id="database-no-url"),
    pytest.param(
        {"CERTORBIT_DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/n"},
        ("database n at 127.0.0.1",),
        id="database-away",
    ),
    pytest.param({"CERTORBIT_KEY_ENCRYPTION_KEY": PASSWORD}, ("key_encryption_key", "32 bytes"), id="sealing-key"),
    pytest.param({"CERTORBIT_BOOTSTRAP_API_KEY": "short"}, ("BOOTSTRAP_API_KEY", "20 or more"), id="first-key"),
    pytest.param({"CERTORBIT_HTTP01_LISTEN": "80"}, ("HTTP01_LISTEN", "host:port"), id="challenge-listener"),
    pytest.param({"CERTORBIT_ISSUANCE__WAIT": "99"}, ("ISSUANCE__WAIT", "25"), id="out-of-range"),
    pytest.param({"CERTORBIT_ISSUANCE__WIAT": "9"}, ("ISSUANCE__WIAT",), id="misspelt"),
    pytest.param({"CERTORBIT_SETTINGS": "/no/such.toml"}, ("/no/such.toml", "does not exist"), id="no-file"),
    pytest.param({"CERTORBIT_DATA_DIR": "/dev/null/data"}, ("data_dir", "/dev/null/data"), id="data-directory"),
]


Run = Future["subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """All cases, by their id. A start takes more than a second of one core, so two run at a time."""
    with ThreadPoolExecutor(2) as threads:
        yield {
            str(case.id): threads.submit(run, tmp_path_factory.mktemp("wrong"), case.values[0])  # type: ignore[arg-type]
            for case in CASES
        }


@pytest.mark.parametrize(("environment", "says"), CASES)
def test_a_wrong_setting_is_named_in_one_line(
    runs: dict[str, Run], request: pytest.FixtureRequest, environment: dict[str, str], says: tuple[str, ...]
) -> None:
    assert_refused(runs[request.node.callspec.id].result(), *says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(b"[issuance\n", ("no TOML", "line 1"), id="syntax"),
        pytest.param(b"\xff\xfe", ("no TOML",), id="encoding"),
        pytest.param(b"colour = 1", ("certorbit.toml: colour: there is no such setting",), id="unknown-name"),
        pytest.param(b"[[issuers]]\nname='a'\ntype='internal'\n" * 2, ("issuers", "'a'", "twice"), id="name-twice"),
    ],
)
def test_a_wrong_settings_file_is_named_in_one_line(tmp_path: Path, text: bytes, says: tuple[str, ...]) -> None:
    (tmp_path / "certorbit.toml").write_bytes(text)
    assert_refused(run(tmp_path, {}), *says)


@pytest.fixture
def started(tmp_path: Path) -> Callable[[], Service]:
    """Start and stop a service in the folder's `data`, so that its files exist."""

    def start() -> Service:
        (tmp_path / "data").mkdir(mode=0o700, exist_ok=True)
        service = Service(tmp_path / "data", {}).start()
        assert service.stop() == 0
        return service

    return start


def test_the_sealing_keys_file_must_be_for_our_eyes_alone(tmp_path: Path, started: Callable[[], Service]) -> None:
    service = started()
    path = tmp_path / "data" / "keyring" / "key-encryption-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in service.log_text()
    path.chmod(0o644)
    done = run(tmp_path, {})
    assert_refused(done, str(path), "mode 0644", f"chmod 600 {path}")
    assert path.read_text().strip() not in done.stderr
    path.rename(path.with_name("gone"))
    assert_refused(run(tmp_path, {}), "key-encryption key", "is missing", str(path))
    assert not path.exists(), "no new key is made for a database that is sealed by another"


@pytest.mark.parametrize("listener", ["--port", "http01"])
def test_a_port_in_use_is_named_in_one_line(tmp_path: Path, listener: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if listener == "--port":
            done = run(tmp_path, {}, "serve", "--port", str(port))
        else:
            done = run(tmp_path, {"CERTORBIT_HTTP01_LISTEN": f"127.0.0.1:{port}"})
    assert_refused(done, f"127.0.0.1:{port} can't be listened on", "Address already in use")


def test_a_worker_names_wrong_settings_too(tmp_path: Path) -> None:
    database = f"postgresql://u:{PASSWORD}@127.0.0.1:{free_port()}/n"
    assert_refused(run(tmp_path, {"CERTORBIT_DATABASE_URL": database}, "worker"), "database n at 127.0.0.1")
