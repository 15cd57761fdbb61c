"""The directory: where the CA's other doors are (RFC 8555 §7.1.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certorbit.acme.answer import Answer, clean, rubbish
from certorbit.net.guard import check_ca_url


@dataclass(frozen=True, slots=True)
class Directory:
    """The URLs that we use, checked, and the CA's metadata.

    renewal_info: "" if the CA has no ARI (RFC 9773 §4).
    caa_identities: the names by which CAA records allow this CA to issue; none if it doesn't say (RFC 8555 §7.1.1).
    profiles: what the CA says of each profile, by name (draft-ietf-acme-profiles §3).
    """

    new_nonce: str
    new_account: str
    new_order: str
    revoke_cert: str
    renewal_info: str
    caa_identities: tuple[str, ...]
    profiles: Mapping[str, str]


def read_directory(answer: Answer) -> Directory:
    """Return the directory in an answer.

    Raises:
        Unreachable: the answer isn't a directory (phase "answer"), or names a URL that may not be asked ("guard").
    """
    value = answer.read_object()
    meta = value.get("meta")
    profiles = meta.get("profiles") if isinstance(meta, dict) else None
    identities = meta.get("caaIdentities") if isinstance(meta, dict) else None
    return Directory(
        new_nonce=_url(value, "newNonce", answer),
        new_account=_url(value, "newAccount", answer),
        new_order=_url(value, "newOrder", answer),
        revoke_cert=_url(value, "revokeCert", answer),
        renewal_info=_url(value, "renewalInfo", answer) if "renewalInfo" in value else "",
        caa_identities=tuple(clean(name, longest=253).lower() for name in identities if isinstance(name, str))
        if isinstance(identities, list)
        else (),
        profiles={clean(name, longest=64): clean(str(text)) for name, text in profiles.items()}
        if isinstance(profiles, dict)
        else {},
    )


def _url(value: Mapping[str, Any], name: str, answer: Answer) -> str:
    url = value.get(name)
    if not isinstance(url, str):
        raise rubbish(answer, f"no directory: {name} is missing")
    check_ca_url(url, directory=answer.url)
    return url
