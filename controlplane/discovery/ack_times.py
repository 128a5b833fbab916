"""How long a client takes to answer what it is sent, by resource type."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from controlplane.clock import Clock
from controlplane.domain.measurement import Histogram

#: Seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: Responses that may be without an answer; older ones are forgotten, for a client need not answer each.
_MOST = 256


@dataclass(slots=True)
class _Counts:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum: float = 0.0
    refused: int = 0


class AckTimes:
    """The times of one stream; written by one thread, read by any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[int, float] = {}
        self._types: dict[str, _Counts] = {}

    def sent(self, seq: int) -> None:
        """A response leaves now."""
        self._sent[seq] = self._clock.monotonic()
        if len(self._sent) > _MOST:
            del self._sent[next(iter(self._sent))]

    def answered(self, type_url: str, seq: int, *, refused: bool) -> None:
        """It was acknowledged, or refused."""
        sent = self._sent.pop(seq, None)
        counts = self._types.setdefault(type_url, _Counts())
        counts.refused += refused
        if sent is not None:
            took = self._clock.monotonic() - sent
            counts.counts[bisect_left(BOUNDS, took)] += 1
            counts.sum += took

    def read(self) -> Iterator[tuple[str, Histogram, int]]:
        """By type: how long its responses took, and how many of them were refused."""
        for type_url, counts in tuple(self._types.items()):
            total, buckets = 0, []
            for bound, count in zip((*BOUNDS, float("inf")), tuple(counts.counts), strict=True):
                total += count
                buckets.append((bound, total))
            yield type_url, Histogram(tuple(buckets), counts.sum), counts.refused
