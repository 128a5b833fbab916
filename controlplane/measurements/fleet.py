"""How the traffic of all endpoints stands, and what share of it each served entity has had lately."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from controlplane.clock import Clock
from controlplane.domain.measurement import FleetReading
from controlplane.measurements.envoys import Envoys

#: Seconds that "lately" has, and the fewest between two readings that are remembered for it.
WINDOW, APART = 60.0, 5.0


class FleetMeasurements:
    """Reads all Envoys at once. Safe to use from any thread."""

    def __init__(self, envoys: Envoys, clock: Clock) -> None:
        self._envoys = envoys
        self._clock = clock
        self._lock = threading.Lock()
        #: When, and how many requests each Envoy had counted for each cluster; oldest first.
        self._earlier: deque[tuple[float, Mapping[tuple[str, str], int]]] = deque()

    def read(self) -> FleetReading:
        """What is known now; requests of late are those since the reading that is nearest to a minute ago."""
        readings = self._envoys.read()
        counted = {
            (reading.node_id, cluster): found.requests
            for reading in readings
            for cluster, found in reading.traffic.items()
        }
        with self._lock:
            now = self._clock.monotonic()
            while len(self._earlier) > 1 and self._earlier[1][0] <= now - WINDOW:
                self._earlier.popleft()
            before = self._earlier[0][1] if self._earlier else {}
            if not self._earlier or now - self._earlier[-1][0] >= APART:
                self._earlier.append((now, counted))
        lately: dict[str, int] = {}
        for (node_id, cluster), requests in counted.items():
            since = requests - before.get((node_id, cluster), 0)
            # An Envoy that has started anew counts from nothing.
            lately[cluster] = lately.get(cluster, 0) + (since if since >= 0 else requests)
        return FleetReading(readings, lately)
