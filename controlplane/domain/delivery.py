"""What became of the configuration that was sent: per Envoy what it acknowledged, what it refused and in which words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rejection:
    """An Envoy refused a resource at one version; it keeps what it had before."""

    node_id: str
    type_url: str
    #: The resource, or "" when the refused response held several and Envoy's words name none of them.
    name: str
    version: str
    #: Envoy's own words.
    message: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """How one resource type stands on one Envoy."""

    type_url: str
    #: How many resources of the type this Envoy has acknowledged and still has.
    acked: int
    #: The snapshot generation of the last response of this type that it acknowledged, 0 before the first.
    generation: int
    #: Responses sent on the present stream that it has neither acknowledged nor refused yet.
    in_flight: int
    #: Resources that are ready but held back until the clusters they refer to are in use.
    held: int
    #: Responses, and resources in them, sent on the present stream.
    responses_sent: int
    resources_sent: int


@dataclass(frozen=True, slots=True)
class EnvoyStatus:
    """One Envoy (or other xDS client) as the control plane sees it, one per stream."""

    node_id: str
    cluster: str
    #: `1.40.0`, "" for a client that does not say.
    version: str
    #: `envoy` for Envoy.
    agent: str
    #: False for an Envoy that was lost: it keeps the configuration it had, and may still route by it.
    connected: bool
    #: When the stream began, or was lost.
    since_ms: int
    types: tuple[TypeStatus, ...] = ()
    last_rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether certain resources are in use on every Envoy that counts."""

    #: True only when every one of them said so.
    done: bool
    #: Who waits for what, in words for the user; empty when done.
    waiting: tuple[str, ...] = ()
    #: Refusals of exactly the versions that were asked about.
    rejections: tuple[Rejection, ...] = ()
