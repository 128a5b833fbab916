"""One xDS resource as bytes: encoded once, framed once, shared by every stream that sends it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


class TypeUrl:
    """The resource types Wye speaks, in the order in which changes are sent (make before break)."""

    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
    EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    SCOPE = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
    ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    VIRTUAL_HOST = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
    RUNTIME = "type.googleapis.com/envoy.service.runtime.v3.Runtime"


def varint(value: int) -> bytes:
    """`value` in protobuf's base-128 encoding."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field_bytes(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field; empty values are left out, as proto3 does."""
    return varint(number << 3 | 2) + varint(len(value)) + value if value else b""


@dataclass(frozen=True, slots=True)
class Resource:
    """An encoded resource, its content-hash version, and the frames that responses are joined from.

    `refs` are the names of the clusters that must be usable on an Envoy before this resource may be sent to it (what a
    route, or the scope that leads to it, sends requests to).
    """

    type_url: str
    name: str
    version: str
    refs: frozenset[str] = frozenset()
    #: This resource as an entry of `DeltaDiscoveryResponse.resources` (field 2). Its end is the frame for the other
    #: variant, and the end of that is the body: ten thousand endpoints fit into memory with one copy of each, not three.
    delta_frame: bytes = field(default=b"", repr=False, compare=False)
    _sotw_at: int = field(default=0, repr=False, compare=False)
    _body_at: int = field(default=0, repr=False, compare=False)

    @classmethod
    def of(
        cls, type_url: str, name: str, body: bytes, refs: frozenset[str] = frozenset(), version: str = ""
    ) -> Resource:
        """A resource from its serialised message; the version depends on nothing but the bytes, unless it is given."""
        version = version or hashlib.blake2b(body, digest_size=8).hexdigest()
        packed = field_bytes(1, type_url.encode()) + field_bytes(2, body)  # google.protobuf.Any
        sotw = field_bytes(2, packed)  # field 2 of `Resource`, which is also that of `DiscoveryResponse.resources`
        frame = field_bytes(2, field_bytes(3, name.encode()) + field_bytes(1, version.encode()) + sotw)
        return cls(type_url, name, version, refs, frame, len(frame) - len(sotw), len(frame) - len(body))

    @property
    def sotw_frame(self) -> bytes:
        """The resource as an entry of `DiscoveryResponse.resources` (field 2)."""
        return self.delta_frame[self._sotw_at :]

    @property
    def body(self) -> bytes:
        """The serialised message."""
        return self.delta_frame[self._body_at :]
