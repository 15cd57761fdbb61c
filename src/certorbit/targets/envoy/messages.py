"""The few xDS v3 messages that secret discovery needs, on the wire; everything else here works with plain values.

The fields and their numbers are those of Envoy's API (`envoy/service/discovery/v3/discovery.proto`,
`envoy/extensions/transport_sockets/tls/v3/{secret,common}.proto`, `envoy/config/core/v3/base.proto`,
`google/rpc/status.proto`); a test compares them with the published ones. They stand in a descriptor pool of our own:
the packages that carry the generated modules install a top-level package `envoy` each, over one another, and several
megabytes of messages that nothing here sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from certorbit.model.material import PrivateKeyPEM

SECRET_TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
_PACKAGE: Final = "certorbit.sds"

# Message: ((field, number, type), …). A type in brackets is repeated; a capital letter begins a message's name.
MESSAGES: Final[Mapping[str, tuple[tuple[str, int, str], ...]]] = {
    "Any": (("type_url", 1, "string"), ("value", 2, "bytes")),
    "Status": (("code", 1, "int32"), ("message", 2, "string")),
    "Node": (("id", 1, "string"), ("cluster", 2, "string")),
    "DiscoveryRequest": (
        ("version_info", 1, "string"),
        ("node", 2, "Node"),
        ("resource_names", 3, "[string]"),
        ("type_url", 4, "string"),
        ("response_nonce", 5, "string"),
        ("error_detail", 6, "Status"),
    ),
    "DiscoveryResponse": (
        ("version_info", 1, "string"),
        ("resources", 2, "[Any]"),
        ("type_url", 4, "string"),
        ("nonce", 5, "string"),
    ),
    "DeltaDiscoveryRequest": (
        ("node", 1, "Node"),
        ("type_url", 2, "string"),
        ("resource_names_subscribe", 3, "[string]"),
        ("resource_names_unsubscribe", 4, "[string]"),
        ("initial_resource_versions", 5, "[Held]"),
        ("response_nonce", 6, "string"),
        ("error_detail", 7, "Status"),
    ),
    "Held": (("key", 1, "string"), ("value", 2, "string")),  # a map<string, string> is this on the wire
    "DeltaDiscoveryResponse": (
        ("system_version_info", 1, "string"),
        ("resources", 2, "[Resource]"),
        ("type_url", 4, "string"),
        ("nonce", 5, "string"),
        ("removed_resources", 6, "[string]"),
    ),
    "Resource": (("version", 1, "string"), ("resource", 2, "Any"), ("name", 3, "string")),
    "Secret": (
        ("name", 1, "string"),
        ("tls_certificate", 2, "TlsCertificate"),
        ("validation_context", 4, "CertificateValidationContext"),
    ),
    "TlsCertificate": (("certificate_chain", 1, "DataSource"), ("private_key", 2, "DataSource")),
    "CertificateValidationContext": (
        ("trusted_ca", 1, "DataSource"),
        ("verify_certificate_hash", 2, "[string]"),
        ("crl", 7, "DataSource"),
    ),
    "DataSource": (("inline_bytes", 2, "bytes"),),
}
_SCALARS: Final = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int32": FieldDescriptorProto.TYPE_INT32,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSCertificate:
    """What a listener shows."""

    chain_pem: str
    key: PrivateKeyPEM


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationContext:
    """What a listener checks clients' certificates by. All of it empty: it asks nobody for one.

    leaf_hashes: SHA-256 of the only certificates that are good, lower-case hex; none: all that the CAs vouch for.
    """

    ca_pem: str = ""
    crl_pem: str = ""
    leaf_hashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret as proxies get it. version: another text whenever the content is another one."""

    name: str
    version: str
    content: TLSCertificate | ValidationContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A DiscoveryRequest. node: only in a stream's first. error: of a NACK; "" otherwise."""

    node: str
    type_url: str
    names: tuple[str, ...]
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaAsk:
    """A DeltaDiscoveryRequest. held: versions by name that the proxy has from a stream before."""

    node: str
    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A DiscoveryResponse or DeltaDiscoveryResponse. missing: asked for and not there (delta only)."""

    version: str
    nonce: str
    secrets: tuple[Secret, ...]
    missing: tuple[str, ...] = ()


def _describe() -> FileDescriptorProto:
    file = FileDescriptorProto(name="certorbit/sds.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in MESSAGES.items():
        described = DescriptorProto(name=message)
        for name, number, kind in fields:
            label = FieldDescriptorProto.LABEL_REPEATED if kind[0] == "[" else FieldDescriptorProto.LABEL_OPTIONAL
            wanted = described.field.add(name=name, number=number, label=label)
            inner = kind.strip("[]")
            if inner in _SCALARS:
                wanted.type = _SCALARS[inner]
            else:
                wanted.type = FieldDescriptorProto.TYPE_MESSAGE
                wanted.type_name = f".{_PACKAGE}.{inner}"
        file.message_type.append(described)
    return file


_POOL: Final = DescriptorPool()
_POOL.AddSerializedFile(_describe().SerializeToString())
_CLASSES: Final[Mapping[str, type[Any]]] = {
    name: GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in MESSAGES
}


def read_ask(wire: bytes) -> Ask:
    """Return a DiscoveryRequest; raises protobuf's DecodeError, which gRPC answers, for what is none."""
    request = _CLASSES["DiscoveryRequest"].FromString(wire)
    return Ask(
        node=request.node.id,
        type_url=request.type_url,
        names=tuple(request.resource_names),
        nonce=request.response_nonce,
        error=_read_error(request),
    )


def read_delta_ask(wire: bytes) -> DeltaAsk:
    """Return a DeltaDiscoveryRequest; raises protobuf's DecodeError, which gRPC answers, for what is none."""
    request = _CLASSES["DeltaDiscoveryRequest"].FromString(wire)
    return DeltaAsk(
        node=request.node.id,
        type_url=request.type_url,
        subscribe=tuple(request.resource_names_subscribe),
        unsubscribe=tuple(request.resource_names_unsubscribe),
        held={held.key: held.value for held in request.initial_resource_versions},
        nonce=request.response_nonce,
        error=_read_error(request),
    )


def _read_error(request: Any) -> str:
    if not request.HasField("error_detail"):
        return ""
    return request.error_detail.message or "no reason given"


def write_push(push: Push) -> bytes:
    """Return a DiscoveryResponse."""
    response = _CLASSES["DiscoveryResponse"](version_info=push.version, type_url=SECRET_TYPE, nonce=push.nonce)
    for secret in push.secrets:
        response.resources.append(_pack(secret))
    written: bytes = response.SerializeToString()
    return written


def write_delta_push(push: Push) -> bytes:
    """Return a DeltaDiscoveryResponse."""
    response = _CLASSES["DeltaDiscoveryResponse"](
        system_version_info=push.version, type_url=SECRET_TYPE, nonce=push.nonce, removed_resources=push.missing
    )
    for secret in push.secrets:
        response.resources.add(version=secret.version, name=secret.name, resource=_pack(secret))
    written: bytes = response.SerializeToString()
    return written


def _pack(secret: Secret) -> Any:
    content = secret.content
    if isinstance(content, TLSCertificate):
        message = _CLASSES["Secret"](name=secret.name, tls_certificate=_make_certificate(content))
    else:
        message = _CLASSES["Secret"](name=secret.name, validation_context=_make_validation_context(content))
    return _CLASSES["Any"](type_url=SECRET_TYPE, value=message.SerializeToString())


def _make_certificate(content: TLSCertificate) -> Any:
    return _CLASSES["TlsCertificate"](
        certificate_chain=_make_source(content.chain_pem), private_key=_make_source(content.key.reveal())
    )


def _make_validation_context(content: ValidationContext) -> Any:
    message = _CLASSES["CertificateValidationContext"](verify_certificate_hash=content.leaf_hashes)
    if content.ca_pem:
        message.trusted_ca.CopyFrom(_make_source(content.ca_pem))
    if content.crl_pem:
        message.crl.CopyFrom(_make_source(content.crl_pem))
    return message


def _make_source(text: str) -> Any:
    return _CLASSES["DataSource"](inline_bytes=text.encode())
