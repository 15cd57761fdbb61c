"""Secrets of the cluster as we write and read them: copies, and the Secrets that listeners refer to.

A copy is an immutable Secret of ours for one version of an entry; nothing serves it. A listener's Secret holds what
its copy holds, and an annotation says which copy that is.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial
from certorbit.model.balancer import Bundle
from certorbit.pki.pem import read_certificates

TLS_TYPE: Final = "kubernetes.io/tls"
OWNER: Final = "certorbit.io/owner"  # labels
ROLE: Final = "certorbit.io/role"
COPY: Final = "certorbit.io/copy"  # annotations
FINGERPRINT: Final = "certorbit.io/fingerprint"
ENTRY: Final = "certorbit.io/entry"
VERSION: Final = "certorbit.io/version"
ROLE_COPY: Final = "copy"
ROLE_LISTENER: Final = "listener"
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"


@dataclass(frozen=True, slots=True)
class SecretState:
    """A Secret as it was read. `data` (base64) may hold a private key: it is in no repr.

    fingerprint: of the first certificate in it, "" if there is none to read.
    """

    name: str
    type: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    resource_version: str
    uid: str
    data: Mapping[str, str]

    def __repr__(self) -> str:
        return f"SecretState(name={self.name!r})"

    @property
    def fingerprint(self) -> str:
        try:
            pem = base64.b64decode(self.data.get(CERTIFICATE, ""), validate=True).decode("ascii")
            leaf = read_certificates(pem)[0]
        except (binascii.Error, ValueError, BadMaterial):
            return ""
        return sha256(leaf.public_bytes(Encoding.DER)).hexdigest()

    def is_of(self, owner: str, *, role: str) -> bool:
        return self.labels.get(OWNER) == owner and self.labels.get(ROLE) == role

    @property
    def material(self) -> dict[str, str]:
        return {key: self.data[key] for key in (CERTIFICATE, KEY) if key in self.data}


def read_secret(item: Mapping[str, Any]) -> SecretState:
    """Return the state of a Secret, or of its metadata alone."""
    metadata = _dict(item.get("metadata"))
    return SecretState(
        name=str(metadata.get("name", "")),
        type=str(item.get("type", "")),
        labels=_texts(metadata.get("labels")),
        annotations=_texts(metadata.get("annotations")),
        resource_version=str(metadata.get("resourceVersion", "")),
        uid=str(metadata.get("uid", "")),
        data=_texts(item.get("data")),
    )


def name_copy(bundle: Bundle) -> str:
    """Return the name of the copy: of this version alone, so that a repeat finds it; it ends in `-<entry id>`."""
    digest = sha256(f"{bundle.version}\n{bundle.facts.fingerprint}".encode()).hexdigest()[:10]
    return f"certorbit-{digest}-{bundle.entry_id}"


def write_copy(bundle: Bundle, *, owner: str) -> dict[str, Any]:
    """Return the Secret of a copy. It holds the private key."""
    material = {CERTIFICATE: bundle.chain_pem, KEY: bundle.key.reveal()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": TLS_TYPE,
        "immutable": True,  # a change by somebody else would be served without anybody's asking
        "metadata": {
            "name": name_copy(bundle),
            "labels": _labels(owner, role=ROLE_COPY),
            "annotations": {
                ENTRY: f"{bundle.config}/{bundle.entry_id}",
                VERSION: bundle.version,
                FINGERPRINT: bundle.facts.fingerprint,
            },
        },
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in material.items()},
    }


def write_listener(copy: SecretState, *, handle: str, owner: str, resource_version: str = "") -> dict[str, Any]:
    """Return what a listener's Secret is to hold of a copy.

    resource_version: of the Secret that was read, so that a change in between is not overwritten; "": for a new one.
    """
    annotations = {
        **{key: copy.annotations[key] for key in (ENTRY, VERSION) if key in copy.annotations},
        FINGERPRINT: copy.fingerprint,
        COPY: handle,
    }
    metadata: dict[str, Any] = {"labels": _labels(owner, role=ROLE_LISTENER), "annotations": annotations}
    if resource_version:
        metadata["resourceVersion"] = resource_version
    return {"metadata": metadata, "data": copy.material}


def find_held(secret: SecretState | None, *, owner: str, itself: str) -> str:
    """Return the handle of what a listener's Secret holds: our copy, or itself if somebody else wrote it; "": nothing.

    itself: the handle that stands for the Secret.
    """
    if secret is None or not secret.data.get(CERTIFICATE):
        return ""
    is_as_written = (
        secret.is_of(owner, role=ROLE_LISTENER) and secret.annotations.get(FINGERPRINT) == secret.fingerprint
    )
    return secret.annotations.get(COPY, itself) if is_as_written else itself


def _labels(owner: str, *, role: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "certorbit", OWNER: owner, ROLE: role}


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> Mapping[str, str]:
    return {key: text for key, text in _dict(value).items() if isinstance(text, str)}
