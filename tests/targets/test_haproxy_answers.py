"""Words of HAProxy's runtime API, read strictly; and the settings that would let a path become two words."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from certorbit.errors import CredentialsRefused, TargetGone, TargetRefused, Unreachable
from certorbit.net.tries import Passing
from certorbit.target_settings.haproxy import HAProxyTargetSettings
from certorbit.targets.haproxy.answers import (
    Inventory,
    ListEntry,
    is_success,
    read_entries,
    read_inventory,
    read_loaded,
    read_transaction,
)
from certorbit.targets.haproxy.material import NO_LEAF, combine, read_leaf
from certorbit.targets.haproxy.runtime import RuntimeAPI
from targets.target_bench import make_bundle


def test_the_inventory_tells_the_transaction_from_the_certificates() -> None:
    answer = "# transaction\n*/c/a.pem\n# filename\n/c/a.pem\n/c/b.pem\n\n"
    assert read_inventory(answer) == Inventory(frozenset({"/c/a.pem", "/c/b.pem"}), "/c/a.pem")
    assert read_inventory("\n") == Inventory(frozenset(), "")
    assert read_inventory("Oh dear\n") is None


def test_entries_are_read_with_options_and_filters() -> None:
    answer = "# /c/l\n/c/a.pem:1\n/c/b.pem:7 [alpn h2,http/1.1] foo !bar\n/c/odd:9.pem:12 x\n\n"
    entries = [ListEntry("/c/a.pem", 1), ListEntry("/c/b.pem", 7, "alpn h2,http/1.1"), ListEntry("/c/odd:9.pem", 12)]
    assert read_entries(answer, crt_list="/c/l") == entries
    assert read_entries("# /c/other\n/c/a.pem:1\n", crt_list="/c/l") is None
    assert read_entries("# /c/l\nwhat is this\n", crt_list="/c/l") is None


def test_several_certificates_are_read_from_one_answer() -> None:
    answer = (
        "Filename: /c/a.pem\nStatus: Used\nSHA1 FingerPrint: AB01\nSubject: /CN=x\n\n"
        "Can't display the certificate: Not found or the certificate is a bundle!\n\n"
        "Filename: /c/b.pem\nStatus: Empty\nOCSP Response Key: \n\n"
    )
    found = read_loaded(answer)
    assert {path: (loaded.is_used, loaded.sha1) for path, loaded in found.items()} == {
        "/c/a.pem": (True, "ab01"),
        "/c/b.pem": (False, ""),
    }


@pytest.mark.parametrize(
    ("answer", "path"),
    [
        ("Transaction created for certificate /c/a.pem!\n\n", "/c/a.pem"),
        ("transaction updated for certificate /c/b.pem!\n", "/c/b.pem"),
        ("The ongoing transaction is about '/c/a.pem' but you are trying to set '/c/b.pem'\n", ""),
        ("unable to load certificate from file '/c/a.pem'.\nCan't load the payload\n", ""),
    ],
)
def test_a_transaction_is_known_by_the_name_in_the_answer(answer: str, path: str) -> None:
    assert read_transaction(answer) == path


def test_success_is_the_last_word_only() -> None:
    assert is_success("Committing /c/a.pem..\nSuccess!\n\n")
    assert is_success("Committing /c/a.pem\nno CRL, but so what\nSuccess!\n")
    for answer in ("", "Success!\nFailed!\n", "Committing /c/Success!.pem\nFailed!\n", "No Success!\n"):
        assert not is_success(answer)


@given(st.text())
def test_no_answer_breaks_the_readers(answer: str) -> None:
    read_inventory(answer)
    read_loaded(answer)
    read_entries(f"# /c/l\n{answer}", crt_list="/c/l")
    read_transaction(answer)
    is_success(answer)


def test_a_payload_has_no_empty_line_and_starts_with_the_key() -> None:
    bundle = make_bundle("www")
    odd = replace(
        bundle, chain_pem=bundle.chain_pem.replace("-----BEGIN", "\r\n  \n\t\n-----BEGIN").replace("\n", "\r\n")
    )
    for each in (bundle, odd):
        text = combine(each)
        assert text == combine(bundle)
        assert all(line.strip() for line in text.splitlines())
        assert text.startswith("-----BEGIN PRIVATE KEY-----\n")
        assert text.endswith("-----END CERTIFICATE-----\n")
        assert read_leaf(text).sha256 == bundle.facts.fingerprint
    assert read_leaf("no certificate") == NO_LEAF


@asynccontextmanager
async def stand_in(folder: Path, answers: Callable[[str], str]) -> AsyncIterator[RuntimeAPI]:
    """A stand-in for HAProxy versions that can't be had here: answers a line with a given text."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode()
        if line.rstrip("\n").endswith("<<"):
            await reader.readuntil(b"\n\n")
        writer.write(answers(line).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, folder / "s")
    async with server:
        yield RuntimeAPI(target="edge", socket=str(folder / "s"), timeout_seconds=5)


Call = Callable[[RuntimeAPI], Awaitable[object]]


@pytest.mark.parametrize(
    ("call", "answer", "error"),
    [
        (lambda api: api.inventory(), "Permission denied\n\n", CredentialsRefused),
        (lambda api: api.inventory(), "Can't allocate memory!\n\n", CredentialsRefused),
        (lambda api: api.inventory(), "Unknown command. Please enter one of …\n", TargetRefused),
        (lambda api: api.version(), "hello\n", TargetRefused),
        (lambda api: api.create("/c/a.pem"), "Can't allocate memory!\n", TargetRefused),
        (lambda api: api.set("/c/a.pem", "x\n"), "Can't replace a certificate which is not referenced by the", TargetRefused),
        (lambda api: api.set("/c/a.pem", "x\n"), "unable to change the CA\n", TargetRefused),
        (lambda api: api.commit("/c/a.pem"), "Committing /c/a.pem\nNot enough memory\nFailed!\n", TargetRefused),
        (lambda api: api.delete("/c/a.pem"), "Can't remove the certificate: '/c/a.pem' in use, can't be deleted!", TargetRefused),
        (lambda api: api.entries("/c/l"), "didn't find the specified filename\n", TargetGone),
        (lambda api: api.add_entry("/c/l", "/c/a.pem"), "Inserting …\nFailed!\n", TargetRefused),
        (lambda api: api.delete_entry("/c/l", ListEntry("/c/a.pem", 2)), "Can't delete the entry: …\n", TargetRefused),
    ],
)  # fmt: skip
async def test_refusals_are_told_apart(tmp_path: Path, call: Call, answer: str, error: type[Exception]) -> None:
    async with stand_in(tmp_path, lambda _: answer) as api:
        with pytest.raises(error, match="Target edge: HAProxy"):
            await call(api)


@pytest.mark.parametrize(
    "answer",
    [
        "Transaction updated for certificate /c/other.pem!\n",  # 2.6: our content went into their transaction
        "The ongoing transaction is about '/c/other.pem' but you are trying to set '/c/a.pem'\nCan't update\n",  # newer
    ],
)
async def test_a_transaction_that_came_between_may_pass(tmp_path: Path, answer: str) -> None:
    asked: list[str] = []

    def answers(line: str) -> str:
        asked.append(line.strip())
        return answer

    async with stand_in(tmp_path, answers) as api:
        with pytest.raises(Passing, match=r"isn't ours .*/c/other\.pem"):
            await api.set("/c/a.pem", "x\n")
    assert asked[1:] == (["abort ssl cert /c/other.pem"] if "updated" in answer else [])


async def test_a_reload_between_set_and_commit_may_pass(tmp_path: Path) -> None:
    async with stand_in(tmp_path, lambda _: "No ongoing transaction! !\nCan't commit /c/a.pem!\n\n") as api:
        with pytest.raises(Passing):
            await api.commit("/c/a.pem")


async def test_an_empty_answer_is_none(tmp_path: Path) -> None:
    async with stand_in(tmp_path, lambda _: "") as api:
        with pytest.raises(Passing, match="it hung up") as caught:
            await api.inventory()
    assert isinstance(caught.value.error, Unreachable)
    assert caught.value.error.was_sent


def settings(**changed: object) -> HAProxyTargetSettings:
    listener = {"name": "a", "crt_list": "/etc/haproxy/a.crtlist"}
    table = {
        "type": "haproxy",
        "name": "edge",
        "socket": "/run/s",
        "directory": "/etc/ssl/edge",
        "host": "h",
        "listeners": [listener],
    }
    return HAProxyTargetSettings.model_validate(table | changed)


def test_the_settings_have_safe_values_of_their_own() -> None:
    made = settings(socket="127.0.0.1:9999")
    assert (made.mode, made.owner, made.group, made.max_certificates) == ("0600", "", "", 1000)
    assert settings(socket="[::1]:9999").socket == "[::1]:9999"


@pytest.mark.parametrize(
    "changed",
    [
        {"directory": "/etc/my certs"},
        {"directory": "/etc/x;quit"},
        {"directory": "/etc/../x"},
        {"directory": "/etc/x/"},
        {"directory": "certs"},
        {"directory": "/etc/x\n"},
        {"socket": "haproxy"},
        {"socket": "host:0"},
        {"socket": "[::1]"},
        {"socket": "/run/../s"},
        {"mode": "0999"},
        {"listeners": []},
        {"listeners": [{"name": "a", "crt_list": "relative"}]},
        {"listeners": [{"name": "a", "crt_list": "/l"}, {"name": "a", "port": 1, "crt_list": "/m"}]},
        {"listeners": [{"name": "a", "crt_list": "/l"}, {"name": "b", "crt_list": "/l"}]},
    ],
    ids=str,
)
def test_settings_that_can_not_work_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**changed)
