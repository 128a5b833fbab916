"""What xDS clients and the server say to each other, as values. Knows neither bytes nor gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from controlplane.translate.resource import Resource


class Variant(Enum):
    """The two protocol variants; a stream speaks one of them from beginning to end."""

    DELTA = "delta"
    SOTW = "state of the world"


@dataclass(frozen=True, slots=True)
class Node:
    """Who is at the other end of a stream, in its own words."""

    id: str
    cluster: str = ""
    agent: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """A DiscoveryRequest: the whole subscription each time, and what became of the response `nonce`."""

    type_url: str
    names: Sequence[str] = ()
    nonce: str = ""
    #: The client's words when it refused the response; None when it accepted it.
    error: str | None = None
    node: Node | None = None
    #: The `version_info` of the last response it accepted, on this stream or an earlier one.
    version: str = ""


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """A DeltaDiscoveryRequest: changes of the subscription, and what became of the response `nonce`."""

    type_url: str
    subscribe: Sequence[str] = ()
    unsubscribe: Sequence[str] = ()
    #: What the client has from an earlier stream; only the first request of a type says it.
    initial: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str | None = None
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A DiscoveryResponse or a DeltaDiscoveryResponse; `removed` exists in the delta variant only."""

    type_url: str
    version: str
    nonce: str
    resources: Sequence[Resource] = field(default=(), repr=False)
    removed: Sequence[str] = ()


class InvalidRequestError(Exception):
    """The client broke a rule of the protocol; the stream ends with INVALID_ARGUMENT and these words."""
