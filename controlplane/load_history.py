"""What served entities have carried in the last quarter of an hour: a bounded history, fed by load reports. No I/O, no clock.

It costs nothing for an entity that nobody asks for: series begin with a request, and the one that was quiet longest goes
when there are too many. Written by the control plane's loop and by the API's threads, read by any thread.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlplane.domain.load import LoadReport
from controlplane.domain.measurement import Histogram
from controlplane.translate import names

#: Seconds that a point stands for, and how many points are kept.
STEP, KEPT = 5, 180
#: Served entities that are remembered, at about 8 kB each.
MOST_SERIES = 2000
#: Seconds that "now" means in a list.
RECENT = 60

#: The first eight digits of an endpoint's id, and a served entity's name: stable over the generations of its clusters.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Recent:
    """Served entities in the last minute."""

    requests: int = 0
    #: Requests a second, over the part of the minute that has been seen.
    rate: float = 0.0
    #: Answers with 4xx or 5xx as a part of all requests, None without any.
    error_share: float | None = None
    in_flight: int = 0
    #: Milliseconds in the replica, None where nothing was measured.
    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Points:
    """One served entity's history, oldest first, a value for each STEP; None where nothing was measured."""

    rate: tuple[float, ...]
    error_share: tuple[float | None, ...]
    in_flight: tuple[int, ...]
    replicas: tuple[int | None, ...]
    p50: tuple[float | None, ...]
    p99: tuple[float | None, ...]


class _Series:
    """Rings of KEPT points, each with the step it was written for."""

    __slots__ = (
        "endpoint",
        "failed",
        "in_flight",
        "issued",
        "latencies",
        "nodes",
        "p50",
        "p99",
        "refused",
        "replicas",
        "steps",
    )

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.steps = array("q", [-1]) * KEPT
        self.issued, self.failed, self.refused, self.in_flight = (array("l", [0]) * KEPT for _ in range(4))
        self.replicas = array("l", [-1]) * KEPT
        self.p50, self.p99 = (array("d", [-1.0]) * KEPT for _ in range(2))
        #: What each Envoy has under way, and in which step it said so.
        self.nodes: dict[str, tuple[int, int]] = {}
        #: The latencies of the last minute, by step.
        self.latencies: deque[tuple[int, Histogram]] = deque(maxlen=RECENT // STEP)

    def at(self, step: int) -> int:
        """Where a step's point is, emptied if it still holds an older one."""
        index = step % KEPT
        if self.steps[index] != step:
            self.steps[index] = step
            for ring in (self.issued, self.failed, self.refused, self.in_flight):
                ring[index] = 0
            self.replicas[index] = -1
            self.p50[index] = self.p99[index] = -1.0
        return index


class LoadHistory:
    """The last quarter of an hour of each served entity that had requests in it."""

    def __init__(self, most_series: int = MOST_SERIES) -> None:
        self._most = most_series
        self._lock = threading.Lock()
        self._series: OrderedDict[Key, _Series] = OrderedDict()
        self._active: dict[Key, None] = {}
        self._watched: dict[str, int] = {}

    def heard(self, node_id: str, reports: Sequence[LoadReport], now_ms: int) -> None:
        """Take what an Envoy reports; clusters that are not in it had no requests."""
        step = now_ms // (1000 * STEP)
        with self._lock:
            for report in reports:
                deployed = names.deployed(report.cluster)
                if deployed is None:
                    continue
                endpoint, owner, entity = deployed
                series = self._of((owner, entity), endpoint)
                index = series.at(step)
                series.issued[index] += report.issued
                series.failed[index] += report.failed + report.dropped
                before, under_way = series.nodes.get(node_id, (step, 0))
                series.nodes[node_id] = step, max(report.in_progress, under_way if before == step else 0)
                series.in_flight[index] = sum(each for at, each in series.nodes.values() if at == step)
                self._active[owner, entity] = None

    def measured(
        self, key: Key, endpoint: str, now_ms: int, *, replicas: int, refused: int = 0, latency: Histogram | None = None
    ) -> None:
        """Note how many replicas answer now and, since they were asked last, how many 4xx they gave and how long all took."""
        step = now_ms // (1000 * STEP)
        with self._lock:
            series = self._of(key, endpoint)
            index = series.at(step)
            series.replicas[index] = replicas
            series.refused[index] += refused
            if latency is None or not latency.count:
                return
            series.latencies.append((step, latency))
            series.p50[index] = latency.quantile(0.5) or 0.0
            series.p99[index] = latency.quantile(0.99) or 0.0

    def watch(self, endpoint: str, now_ms: int) -> None:
        """Somebody looks at the endpoint: its latencies are to be measured ahead of others'."""
        with self._lock:
            self._watched[endpoint] = now_ms
            if len(self._watched) > self._most:
                self._watched = {name: at for name, at in self._watched.items() if now_ms - at < 1000 * RECENT}

    def take_active(self, now_ms: int) -> list[tuple[str, Key]]:
        """The endpoints and keys that had requests since this was asked last: first those looked at, then the busiest."""
        with self._lock:
            found, self._active = self._active, {}
            looked_at = {name for name, at in self._watched.items() if now_ms - at < 1000 * RECENT}
            busy = [(self._series[key].endpoint, key) for key in found if key in self._series]
        rates = {key: self.recent([key], now_ms).requests for _, key in busy}
        return sorted(busy, key=lambda each: (each[0] not in looked_at, -rates[each[1]]))

    def recent(self, keys: Sequence[Key], now_ms: int) -> Recent:
        """The last minute of these served entities together."""
        found = [series for key in keys if (series := self._series.get(key)) is not None]
        if not found:
            return Recent()
        last = now_ms // (1000 * STEP)
        steps = range(last - RECENT // STEP, last + 1)
        issued = failed = in_flight = 0
        for series in found:
            for step in steps:
                index = step % KEPT
                if series.steps[index] == step:
                    issued += series.issued[index]
                    failed += series.failed[index] + series.refused[index]
            latest = [series.in_flight[step % KEPT] for step in steps[-2:] if series.steps[step % KEPT] == step]
            in_flight += latest[-1] if latest else 0
        latency = _sum(histogram for series in found for step, histogram in tuple(series.latencies) if step in steps)
        return Recent(
            requests=issued,
            rate=issued / (RECENT + now_ms / 1000 % STEP),
            error_share=min(1.0, failed / issued) if issued else None,
            in_flight=in_flight,
            p50=latency.quantile(0.5) if latency else None,
            p99=latency.quantile(0.99) if latency else None,
        )

    def issued(self, key: Key, since_ms: int, now_ms: int) -> int:
        """Requests that began since then, as far as they are remembered."""
        series = self._series.get(key)
        if series is None:
            return 0
        last, first = now_ms // (1000 * STEP), since_ms // (1000 * STEP) + 1
        steps = range(max(first, last - KEPT + 1), last + 1)
        return sum(series.issued[step % KEPT] for step in steps if series.steps[step % KEPT] == step)

    def points(self, key: Key, now_ms: int) -> Points:
        """All that is remembered of a served entity, up to the last full step."""
        last = now_ms // (1000 * STEP)
        series = self._series.get(key) or _Series("")
        at = [index if series.steps[index := step % KEPT] == step else None for step in range(last - KEPT + 1, last)]
        return Points(
            rate=tuple(0.0 if i is None else series.issued[i] / STEP for i in at),
            error_share=tuple(
                None
                if i is None or not series.issued[i]
                else min(1.0, (series.failed[i] + series.refused[i]) / series.issued[i])
                for i in at
            ),
            in_flight=tuple(0 if i is None else series.in_flight[i] for i in at),
            replicas=tuple(None if i is None or series.replicas[i] < 0 else series.replicas[i] for i in at),
            p50=tuple(None if i is None or series.p50[i] < 0 else series.p50[i] for i in at),
            p99=tuple(None if i is None or series.p99[i] < 0 else series.p99[i] for i in at),
        )

    def __len__(self) -> int:
        return len(self._series)

    def _of(self, key: Key, endpoint: str) -> _Series:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(endpoint)
            if len(self._series) > self._most:
                self._series.popitem(last=False)
        self._series.move_to_end(key)
        return series


def times(now_ms: int) -> list[int]:
    """The Unix seconds of `Points`, oldest first."""
    last = now_ms // (1000 * STEP)
    return [step * STEP for step in range(last - KEPT + 1, last)]


def _sum(found: Iterable[Histogram]) -> Histogram | None:
    total: Histogram | None = None
    for each in found:
        total = each if total is None or len(total.buckets) != len(each.buckets) else total + each
    return total
