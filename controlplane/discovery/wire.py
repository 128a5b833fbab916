"""xDS messages as bytes: requests are parsed with minimal messages of our own, responses are joined from cached frames.

Envoy's first request lists some five hundred extensions; messages that know only the fields we read parse it in
microseconds, and nothing here needs the generated Envoy API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from controlplane.discovery.messages import DeltaRequest, InvalidRequestError, Node, Response, SotwRequest, Variant
from controlplane.translate.resource import field_bytes

_PACKAGE = "wye.discovery"
_FIELD = descriptor_pb2.FieldDescriptorProto
_REPEATED = _FIELD.LABEL_REPEATED
_SINGLE = _FIELD.LABEL_OPTIONAL

#: Message -> field -> (number, type or message name, label). Numbers are those of envoy/service/discovery/v3.
_SCHEMA: Mapping[str, Mapping[str, tuple[int, int | str, int]]] = {
    "SemanticVersion": {
        "major": (1, _FIELD.TYPE_UINT32, _SINGLE),
        "minor": (2, _FIELD.TYPE_UINT32, _SINGLE),
        "patch": (3, _FIELD.TYPE_UINT32, _SINGLE),
    },
    "BuildVersion": {"version": (1, "SemanticVersion", _SINGLE)},
    "Node": {
        "id": (1, _FIELD.TYPE_STRING, _SINGLE),
        "cluster": (2, _FIELD.TYPE_STRING, _SINGLE),
        "agent": (6, _FIELD.TYPE_STRING, _SINGLE),
        "agent_version": (7, _FIELD.TYPE_STRING, _SINGLE),
        "build": (8, "BuildVersion", _SINGLE),
    },
    "Status": {"code": (1, _FIELD.TYPE_INT32, _SINGLE), "message": (2, _FIELD.TYPE_STRING, _SINGLE)},
    "DiscoveryRequest": {
        "version": (1, _FIELD.TYPE_STRING, _SINGLE),
        "node": (2, "Node", _SINGLE),
        "names": (3, _FIELD.TYPE_STRING, _REPEATED),
        "type_url": (4, _FIELD.TYPE_STRING, _SINGLE),
        "nonce": (5, _FIELD.TYPE_STRING, _SINGLE),
        "error": (6, "Status", _SINGLE),
    },
    # A map field is a repeated entry of key and value.
    "Version": {"key": (1, _FIELD.TYPE_STRING, _SINGLE), "value": (2, _FIELD.TYPE_STRING, _SINGLE)},
    "DeltaDiscoveryRequest": {
        "node": (1, "Node", _SINGLE),
        "type_url": (2, _FIELD.TYPE_STRING, _SINGLE),
        "subscribe": (3, _FIELD.TYPE_STRING, _REPEATED),
        "unsubscribe": (4, _FIELD.TYPE_STRING, _REPEATED),
        "initial": (5, "Version", _REPEATED),
        "nonce": (6, _FIELD.TYPE_STRING, _SINGLE),
        "error": (7, "Status", _SINGLE),
    },
}


def message_classes(
    package: str, schema: Mapping[str, Mapping[str, tuple[int, int | str, int]]]
) -> dict[str, type[Message]]:
    """Message classes made from field numbers, in a pool of their own so that they collide with nothing installed."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in schema.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, label) in fields.items():
            entry = message.field.add(name=field, number=number, label=cast("Any", label))
            if isinstance(kind, str):
                entry.type, entry.type_name = _FIELD.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                entry.type = cast("Any", kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in schema}


#: The request messages, for those who speak the other side of the protocol (`testing`).
CLASSES = message_classes(_PACKAGE, _SCHEMA)


class _Number(Protocol):
    major: int
    minor: int
    patch: int


class _Build(Protocol):
    version: _Number


class _Node(Protocol):
    id: str
    cluster: str
    agent: str
    agent_version: str
    build: _Build


class _Status(Protocol):
    message: str


class _Version(Protocol):
    key: str
    value: str


class _Request(Protocol):
    node: _Node
    type_url: str
    nonce: str
    error: _Status

    def HasField(self, name: str) -> bool: ...  # noqa: N802 - protobuf's name


class _Sotw(_Request, Protocol):
    version: str
    names: Sequence[str]


class _Delta(_Request, Protocol):
    subscribe: Sequence[str]
    unsubscribe: Sequence[str]
    initial: Sequence[_Version]


def parse_sotw(data: bytes) -> SotwRequest:
    """A DiscoveryRequest; raises InvalidRequestError for bytes that are none."""
    message = cast("_Sotw", _parse("DiscoveryRequest", data))
    return SotwRequest(
        message.type_url, tuple(message.names), message.nonce, _error(message), _node(message), message.version
    )


def parse_delta(data: bytes) -> DeltaRequest:
    """A DeltaDiscoveryRequest; raises InvalidRequestError for bytes that are none."""
    message = cast("_Delta", _parse("DeltaDiscoveryRequest", data))
    return DeltaRequest(
        message.type_url,
        tuple(message.subscribe),
        tuple(message.unsubscribe),
        {entry.key: entry.value for entry in message.initial},
        message.nonce,
        _error(message),
        _node(message),
    )


def encode(variant: Variant, response: Response, identifier: bytes) -> bytes:
    """The response as bytes; costs a join of the resources' cached frames."""
    parts = [field_bytes(1, response.version.encode())]
    if variant is Variant.DELTA:
        parts += [resource.delta_frame for resource in response.resources]
        parts += [field_bytes(6, name.encode()) for name in response.removed]
    else:
        parts += [resource.sotw_frame for resource in response.resources]
    parts += [field_bytes(4, response.type_url.encode()), field_bytes(5, response.nonce.encode())]
    control_plane = field_bytes(1, identifier)
    parts.append(field_bytes(7 if variant is Variant.DELTA else 6, control_plane))
    return b"".join(parts)


def _parse(name: str, data: bytes) -> Message:
    try:
        return CLASSES[name].FromString(data)
    except DecodeError as error:
        raise InvalidRequestError(f"not a {name}: {error}") from error


def _error(message: _Request) -> str | None:
    return message.error.message if message.HasField("error") else None


def _node(message: _Request) -> Node | None:
    if not message.HasField("node"):
        return None
    node = message.node
    number = node.build.version
    version = f"{number.major}.{number.minor}.{number.patch}"
    return Node(node.id, node.cluster, node.agent, node.agent_version or ("" if version == "0.0.0" else version))
