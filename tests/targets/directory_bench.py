"""A directory for the contract suite, read as a program would that serves from it: by its manifest and its files."""

import json
import ssl
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

from certorbit.model.balancer import ListenerKey
from certorbit.target_settings.directory import DirectoryTargetSettings
from certorbit.targets.directory import make
from targets.file_parts import key_of, make_parts
from targets.target_bench import TargetBench


def leaf_in(file: Path) -> str:
    first = file.read_text().partition("-----END CERTIFICATE-----\n")
    return sha256(ssl.PEM_cert_to_DER_cert(first[0] + first[1])).hexdigest()


def served_from(folder: Path, listener: ListenerKey, name: str) -> str:
    """Return what a reader would serve; the manifest and the files have to agree."""
    home = folder / f"{listener.listener}-{listener.port}"
    if not (home / "manifest.json").exists():
        return ""
    manifest = json.loads((home / "manifest.json").read_text())
    files = manifest["files"]
    for path in reversed(manifest["attached"]):
        if name in manifest["copies"][path]["names"]:
            place = home / "live" / path
            break
    else:
        if not manifest["default"]:
            return ""
        path, place = manifest["default"], home / "default"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / files["fullchain"], place / files["key"])  # raises unless they belong together
    fingerprint = leaf_in(place / files["fullchain"])
    assert fingerprint == manifest["copies"][path]["fingerprint"]
    return fingerprint


async def open_bench(folder: Path, stack: AsyncExitStack) -> TargetBench:
    settings = DirectoryTargetSettings.model_validate(
        {
            "type": "directory",
            "name": "files",
            "directory": str(folder / "out"),
            "command": ("sh", "-c", f"echo $TARGET_LISTENER >> {folder}/ran"),
            "host": "127.0.0.1",
            "listeners": [{"name": "mail", "port": 993}, {"name": "ldap", "port": 636}],
        }
    )

    async def served(listener: ListenerKey, name: str) -> str:
        return served_from(folder / "out", listener, name)

    return TargetBench(
        target=make(settings, make_parts()),
        listener=key_of("files", "mail", 993),
        other=key_of("files", "ldap", 636),
        served=served,
    )
