"""The fleet: which replicas exist, which served entity each belongs to, and how each is doing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """A replica's life. It begins in STARTING; a replica that is gone is simply no longer in the fleet."""

    #: Its process exists or is being made; it has not answered yet.
    STARTING = "STARTING"
    #: It answered its health check.
    READY = "READY"
    #: Its process ended without being asked to; `Replica.message` has its last words.
    FAILED = "FAILED"
    #: It was told to stop and finishes what it has in hand.
    STOPPING = "STOPPING"
    #: It has no process, and its runtime makes one as soon as a request comes to its address, where the request waits.
    ASLEEP = "ASLEEP"


@dataclass(frozen=True, slots=True, order=True)
class Deployment:
    """Identifies a served entity of one endpoint in one generation; replicas and the Envoy cluster carry it."""

    endpoint_id: str
    entity: str
    generation: int


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a replica or a control plane listens: a Unix socket's path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """An address from `unix:<path>` or `<host>:<port>`; raises ValueError on anything else."""
        if text.startswith("unix:"):
            return cls(path=text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit():
            raise ValueError(f"{text!r} is neither unix:<path> nor <host>:<port>")
        return cls(host=host, port=int(port))


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """All that a runtime needs to start one replica."""

    id: str
    deployment: Deployment
    #: For people: `multi-model/current`.
    title: str
    artifact_uri: str
    #: What `POST /invocations` answers as the model's name and version, and logs call it.
    entity_name: str
    entity_version: str
    environment_vars: tuple[tuple[str, str], ...] = ()
    #: How much of its machine it may take; the first of the sizes when it says none.
    workload_size: str = ""
    #: Begin ASLEEP; for a model that is known to load.
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as its runtime sees it now."""

    id: str
    deployment: Deployment
    phase: Phase
    #: None until it is known where the replica listens.
    address: Address | None = None
    pid: int | None = None
    #: Progress while STARTING, last words when FAILED: an exception's own words where there was one.
    message: str = ""
    #: True when FAILED in a way that would repeat itself (the model does not load), False for a crash.
    permanent: bool = False
    #: How many times its process has been started, the present one included.
    attempt: int = 1
    #: True when connections to `address` wait in a queue while the process is being replaced, instead of being refused.
    holds_connections: bool = False
    #: How often in a row its process has failed since it last served steadily, and what it said at the last time.
    crashes: int = 0
    last_words: str = ""
    #: Why its entity has fewer replicas than it should, where that is so.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What replicas share, as their runtime has last measured it."""

    processors: int
    #: Bytes of memory in all, and bytes that new processes can have.
    memory: int
    available: int
    #: Replica id → bytes of its own and its share of common ones, of those that were measured.
    taken: Mapping[str, int] = field(default_factory=dict)
