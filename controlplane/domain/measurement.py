"""What was measured of a served entity, and what can be read of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
