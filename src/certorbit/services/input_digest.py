"""The digest of a POST's normalised input: it tells a repeat of the same request from another one (contract.md)."""

import json
from collections.abc import Sequence
from hashlib import sha256

from certorbit.model.commands import Generate, Upload
from certorbit.model.entry import ProviderLink


def digest_upload(command: Upload) -> str:
    facts = command.material.facts
    return _digest(
        "upload",
        command.side,
        command.le_auto_renew,
        command.le_auto_replace,
        _links(command.provider_links),
        list(command.crl),
        sha256(command.material.chain_pem.encode()).hexdigest(),
        facts.public_key_sha256,  # the key matches the leaf, so its public half stands for it
    )


def digest_generate(command: Generate) -> str:
    return _digest(
        "generate",
        command.side,
        command.le_auto_renew,
        command.le_auto_replace,
        _links(command.provider_links),
        sorted(identifier.value for identifier in command.identifiers),
    )


def _links(links: Sequence[ProviderLink]) -> list[list[str]]:
    return [[link.link, link.provider, link.region] for link in links]


def _digest(*parts: object) -> str:
    return sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
