"""What was measured of a served entity, and what can be read of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controlplane.domain.delivery import EnvoyStatus
from controlplane.domain.fleet import Replica


class LogKind(StrEnum):
    """Which of a replica's two logs; the strings are the worker host's."""

    #: What it printed.
    OUTPUT = "output"
    #: How its environment was chosen and built.
    BUILD = "build"


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values were at most so large: (bound, count) in ascending order, the last bound infinite."""

    buckets: tuple[tuple[float, int], ...]
    sum: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return self.buckets[-1][1] if self.buckets else 0

    def quantile(self, part: float) -> float | None:
        """The value that `part` of the values are at most, read off within its bucket; None when there are no values."""
        wanted, below, lower = part * self.count, 0, 0.0
        for bound, count in self.buckets:
            if count >= wanted and count > below:
                upper = bound if bound != float("inf") else lower
                return lower + (upper - lower) * (wanted - below) / (count - below)
            below, lower = count, bound
        return None

    def __sub__(self, earlier: Histogram) -> Histogram:
        """The values that have come since `earlier`, which has the same bounds."""
        pairs = zip(self.buckets, earlier.buckets, strict=True)
        return Histogram(tuple((bound, count - less) for (bound, count), (_, less) in pairs), self.sum - earlier.sum)

    def __add__(self, other: Histogram) -> Histogram:
        """The values of both; they have the same bounds."""
        pairs = zip(self.buckets, other.buckets, strict=True)
        return Histogram(tuple((bound, count + more) for (bound, count), (_, more) in pairs), self.sum + other.sum)


@dataclass(frozen=True, slots=True)
class EntityMeasurement:
    """One served entity's load; None stands for what could not be measured."""

    entity: str
    #: Replicas that answer.
    replicas: int
    #: Requests that they are meant to carry at a time.
    provisioned: int
    #: Averages over the replicas: per cent of one core since the last measurement, and of the machine's memory.
    cpu_percent: float | None = None
    memory_percent: float | None = None
    #: Requests in the last minute: all, those answered with 4xx, and those with 5xx.
    requests: int | None = None
    requests_4xx: int | None = None
    requests_5xx: int | None = None
    #: Requests under way.
    in_flight: int | None = None
    #: Milliseconds, by metric name, since the programs that count them have started.
    histograms: tuple[tuple[str, Histogram], ...] = ()


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of one served entity through one Envoy, since that Envoy has started."""

    #: Answers by class of their status: `2xx`, …
    by_class: tuple[tuple[str, int], ...] = ()
    in_flight: int = 0
    #: Milliseconds from a request's arrival at Envoy's router to the last byte of its answer.
    latency: Histogram = Histogram((), 0.0)

    @property
    def requests(self) -> int:
        """All that were answered."""
        return sum(count for _, count in self.by_class)

    def of_class(self, name: str) -> int:
        """Those answered with that class."""
        return dict(self.by_class).get(name, 0)


@dataclass(frozen=True, slots=True)
class EnvoyReading:
    """What one Envoy says; by `endpoint/served entity`, those that have had requests."""

    #: Its node id; the address of one that could not be asked for it.
    node_id: str
    #: False when it did not answer.
    up: bool
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    #: Why it is not up.
    message: str = ""


@dataclass(frozen=True, slots=True)
class FleetReading:
    """What all Envoys say, and the requests of late by `endpoint/served entity`."""

    envoys: tuple[EnvoyReading, ...] = ()
    lately: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AckTimes:
    """How long one Envoy took to acknowledge (or refuse) responses of one resource type."""

    node_id: str
    type_url: str
    #: Seconds from a response to its answer.
    seconds: Histogram
    #: Of these, refusals.
    refused: int


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything there is to tell of the fleet beside its endpoints."""

    traffic: FleetReading = FleetReading()
    replicas: tuple[Replica, ...] = ()
    envoys: tuple[EnvoyStatus, ...] = ()
    acks: tuple[AckTimes, ...] = ()
