"""When to look at which endpoint again, though nothing about it has changed by then."""

from __future__ import annotations

import heapq
import math


class Alarms:
    """One alarm for each endpoint at the most, the earliest that was asked for: when it rings, later ones are set anew."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._of: dict[str, float] = {}

    def ring_at(self, at: float, endpoint_id: str) -> None:
        """Ring for this endpoint at that time, on whatever clock `due` is asked by."""
        if at < self._of.get(endpoint_id, math.inf):
            self._of[endpoint_id] = at
            heapq.heappush(self._heap, (at, endpoint_id))

    @property
    def next(self) -> float | None:
        """When to ask `due` again at the latest; None: no alarm is set."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> set[str]:
        """The endpoints whose alarms ring; each rings once."""
        ringing = set()
        while self._heap and self._heap[0][0] <= now:
            at, endpoint_id = heapq.heappop(self._heap)
            if self._of.get(endpoint_id) == at:
                del self._of[endpoint_id]
                ringing.add(endpoint_id)
        return ringing

    def forget(self, endpoint_id: str) -> None:
        """Do not ring for this endpoint."""
        self._of.pop(endpoint_id, None)
