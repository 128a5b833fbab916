"""The load of one endpoint's served entities, put together from what Envoys and replicas say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import reduce
from operator import add

import httpx

from controlplane.clock import Clock
from controlplane.domain import Endpoint, Phase, Problem, ProblemCode, ProblemError, Replica
from controlplane.domain.measurement import EntityMeasurement, Histogram, Traffic
from controlplane.measurements import exposition
from controlplane.measurements.envoys import Envoys

#: Seconds that "the last minute" has.
WINDOW = 60.0
#: Earlier readings that are remembered of each served entity, and replicas whose processor times are.
MOST_SAMPLES, MOST_PROCESSES = 200, 10_000
#: Seconds that a replica may take to answer.
WORKER_PATIENCE = 1.0
#: The histograms of the replicas that are passed on.
OF_WORKERS = ("model_queue_time_ms", "model_prediction_latency_ms")

#: Requests: all, those answered with 4xx, and those with 5xx.
Sample = tuple[int, int, int]


class Measurements:
    """Reads the Envoys and the replicas, wherever they run. Safe to use from any thread."""

    def __init__(self, envoys: Envoys, clock: Clock, units: Callable[[int], int]) -> None:
        """`units` tells how many requests at a time so many replicas are meant to carry."""
        self._envoys = envoys
        self._clock = clock
        self._units = units
        self._lock = threading.Lock()
        #: By statistics name: counts at earlier readings, oldest first.
        self._samples: dict[str, list[tuple[float, Sample]]] = {}
        #: By replica: when its process began, when its processor time was last read, and what it was.
        self._times: dict[str, tuple[float, float, float]] = {}

    def of(self, endpoint: Endpoint, replicas: Iterable[Replica]) -> tuple[EntityMeasurement, ...]:
        """The load of each entity of the active config; `replicas` are the endpoint's.

        Raises ProblemError (TEMPORARILY_UNAVAILABLE) when no Envoy answers.
        """
        config = endpoint.active
        if config is None:
            return ()
        readings = self._envoys.read()
        if not any(reading.up for reading in readings):
            words = "; ".join(reading.message for reading in readings) or "none is known"
            message = f"Envoy's statistics cannot be read: {words}"
            raise ProblemError(Problem("", ProblemCode.TEMPORARILY_UNAVAILABLE, message))
        serving = [replica for replica in replicas if replica.phase is Phase.READY]
        with self._lock:
            return tuple(
                self._measured(
                    endpoint.name,
                    entity.name,
                    [
                        r
                        for r in serving
                        if (r.deployment.entity, r.deployment.generation) == (entity.name, entity.generation)
                    ],
                    [
                        reading.traffic[statistics]
                        for reading in readings
                        if (statistics := f"{endpoint.name}/{entity.name}") in reading.traffic
                    ],
                )
                for entity in config.entities
            )

    def _measured(
        self, endpoint: str, entity: str, replicas: list[Replica], traffic: list[Traffic]
    ) -> EntityMeasurement:
        counted = (
            sum(each.requests for each in traffic),
            sum(each.of_class("4xx") for each in traffic),
            sum(each.of_class("5xx") for each in traffic),
        )
        latencies = [each.latency for each in traffic if each.latency.buckets]
        requests, of_4xx, of_5xx = self._last_minute(f"{endpoint}/{entity}", counted)
        said = _ask(replicas)
        cpu, memory = self._processes(said)
        return EntityMeasurement(
            entity=entity,
            replicas=len(replicas),
            provisioned=self._units(len(replicas)),
            cpu_percent=cpu,
            memory_percent=memory,
            requests=requests,
            requests_4xx=of_4xx,
            requests_5xx=of_5xx,
            in_flight=sum(each.in_flight for each in traffic),
            histograms=tuple(
                (name, histogram)
                for name, histogram in (
                    *(("request_latency_ms", each) for each in _sum(latencies)),
                    *_histograms(said.values()),
                )
            ),
        )

    def _last_minute(self, name: str, now: Sample) -> Sample:
        """What was counted since the reading that is nearest to a minute ago; since Envoy's start, before there is one."""
        at = self._clock.monotonic()
        earlier = [each for each in self._samples.get(name, []) if each[1] <= now]  # else Envoy has started anew
        old = [each for each in earlier if each[0] <= at - WINDOW / 2]
        before = min(old, key=lambda each: abs(at - WINDOW - each[0]), default=(0.0, (0, 0, 0)))[1]
        recent = [each for each in earlier if each[0] > at - 2 * WINDOW] or earlier[-1:]
        self._samples[name] = [*recent[-MOST_SAMPLES:], (at, now)]
        return now[0] - before[0], now[1] - before[1], now[2] - before[2]

    def _processes(self, said: Mapping[str, list[exposition.Line]]) -> tuple[float | None, float | None]:
        """Processor and memory per cent, averaged over the replicas that say what they take of their machines."""
        cpu: list[float] = []
        memory: list[float] = []
        now = self._clock.now_ms() / 1000
        if len(self._times) > MOST_PROCESSES:
            self._times.clear()
        for replica_id, lines in said.items():
            values = {name: value for name, labels, value in lines if not labels}
            try:
                spent, began = values["process_cpu_seconds_total"], values["process_start_time_seconds"]
                memory.append(100 * values["process_resident_memory_bytes"] / values["machine_memory_bytes"])
            except KeyError:
                continue
            last_began, since, before = self._times.get(replica_id, (began, began, 0.0))
            if last_began != began:  # another process
                since, before = began, 0.0
            self._times[replica_id] = began, now, spent
            cpu.append(100 * max(0.0, spent - before) / max(now - since, 0.001))
        return (sum(cpu) / len(cpu), sum(memory) / len(memory)) if cpu else (None, None)


def _sum(histograms: list[Histogram]) -> list[Histogram]:
    """All of them added up; none of none."""
    return [reduce(add, histograms)] if histograms else []


def _ask(replicas: Iterable[Replica]) -> dict[str, list[exposition.Line]]:
    """What each replica says of itself, by its id; those that do not answer at once are left out."""
    said = {}
    for replica in replicas:
        address = replica.address
        if address is None:
            continue
        transport = httpx.HTTPTransport(uds=address.path) if address.path else None
        base = "http://replica" if address.path else f"http://{address}"
        try:
            with httpx.Client(transport=transport, timeout=WORKER_PATIENCE, trust_env=False) as http:
                said[replica.id] = exposition.lines(http.get(f"{base}/metrics").text)
        except httpx.HTTPError:
            continue
    return said


def _histograms(said: Iterable[list[exposition.Line]]) -> Iterator[tuple[str, Histogram]]:
    """What the replicas themselves count, added up."""
    sums: dict[str, Histogram] = {}
    for lines in said:
        for (name, _), histogram in exposition.histograms(lines).items():
            if name in OF_WORKERS:
                with suppress(ValueError):  # replicas outlive an upgrade, and may have other buckets
                    sums[name] = histogram + sums[name] if name in sums else histogram
    yield from sums.items()
