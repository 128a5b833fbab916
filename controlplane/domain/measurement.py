"""What was measured of a served entity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values were at most so large: (bound, count) in ascending order, the last bound infinite."""

    buckets: tuple[tuple[float, int], ...]
    sum: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return self.buckets[-1][1] if self.buckets else 0


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
    #: Milliseconds from the request's arrival at Envoy's router to the last byte of its answer.
    latency_ms: Histogram | None = None
