"""What Envoy and the operating system know of the load of served entities, read when somebody asks and not before.

One Envoy is read, the one whose admin interface is given. Nothing runs between two questions, so that an endpoint whose
metrics nobody reads costs nothing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import httpx
import psutil

from controlplane.clock import Clock
from controlplane.domain import Address, Endpoint, Phase, Problem, ProblemCode, ProblemError, Replica
from controlplane.domain.measurement import EntityMeasurement, Histogram

#: Seconds that "the last minute" has.
WINDOW = 60.0
#: Earlier readings that are remembered of each served entity, and processes whose times are.
MOST_SAMPLES, MOST_PROCESSES = 200, 10_000
#: Seconds that Envoy, and that a replica may take to answer.
PATIENCE, WORKER_PATIENCE = 5.0, 1.0
#: The histograms of the replicas that are passed on.
OF_WORKERS = ("model_queue_time_ms", "model_prediction_latency_ms")

_LINE = re.compile(r"(?P<name>\w+)(\{(?P<labels>.*)\})? (?P<value>[0-9.e+-]+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_STATISTICS = r"^cluster\.{endpoint}/[^/]*\.upstream_rq_([245]xx|completed|active|time)$"

_CLUSTER = "envoy_cluster_name"
_REQUESTS = "envoy_cluster_upstream_rq_"

Sample = tuple[int, int, int]


@dataclass(slots=True)
class _Counters:
    """One cluster's statistics, as Envoy has counted them since it started."""

    requests: int = 0
    requests_4xx: int = 0
    requests_5xx: int = 0
    in_flight: int = 0
    #: Milliseconds from a request's arrival at Envoy's router to the last byte of its answer.
    latency: Histogram = Histogram((), 0.0)  # noqa: RUF009 - a frozen value

    @property
    def sample(self) -> Sample:
        """The part that is told as a difference."""
        return self.requests, self.requests_4xx, self.requests_5xx


class Measurements:
    """Reads Envoy's statistics at `admin`, and the processes of replicas on this machine. Safe to use from any thread."""

    def __init__(self, admin: Address, clock: Clock, units: Callable[[int], int]) -> None:
        """`units` tells how many requests at a time so many replicas are meant to carry."""
        self._clock = clock
        self._units = units
        self._base = "http://envoy" if admin.path else f"http://{admin}"
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=admin.path) if admin.path else None, timeout=PATIENCE, trust_env=False
        )
        self._lock = threading.Lock()
        #: By statistics name: counts at earlier readings, oldest first.
        self._samples: dict[str, list[tuple[float, Sample]]] = {}
        #: By process id: when its processor time was last read, and what it was.
        self._times: dict[int, tuple[float, float]] = {}

    def close(self) -> None:
        """Let go of Envoy."""
        self._http.close()

    def of(self, endpoint: Endpoint, replicas: Iterable[Replica]) -> tuple[EntityMeasurement, ...]:
        """The load of each entity of the active config; `replicas` are the endpoint's.

        Raises ProblemError (TEMPORARILY_UNAVAILABLE) when Envoy does not answer.
        """
        config = endpoint.active
        if config is None:
            return ()
        counters = _counters(self._statistics(endpoint.name))
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
                    counters.get(f"{endpoint.name}/{entity.name}", _Counters()),
                )
                for entity in config.entities
            )

    def _statistics(self, endpoint: str) -> str:
        query = {"filter": _STATISTICS.format(endpoint=re.escape(endpoint))}
        try:
            answer = self._http.get(f"{self._base}/stats/prometheus", params=query)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            message = f"Envoy's statistics cannot be read: {error or type(error).__name__}"
            raise ProblemError(Problem("", ProblemCode.TEMPORARILY_UNAVAILABLE, message)) from error
        return answer.text

    def _measured(self, endpoint: str, entity: str, replicas: list[Replica], counted: _Counters) -> EntityMeasurement:
        requests, of_4xx, of_5xx = self._last_minute(f"{endpoint}/{entity}", counted.sample)
        cpu, memory = self._processes(replicas)
        return EntityMeasurement(
            entity=entity,
            replicas=len(replicas),
            provisioned=self._units(len(replicas)),
            cpu_percent=cpu,
            memory_percent=memory,
            requests=requests,
            requests_4xx=of_4xx,
            requests_5xx=of_5xx,
            in_flight=counted.in_flight,
            histograms=tuple(
                (name, histogram)
                for name, histogram in (("request_latency_ms", counted.latency), *_workers(replicas))
                if histogram.buckets
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

    def _processes(self, replicas: list[Replica]) -> tuple[float | None, float | None]:
        """Processor and memory per cent, averaged over the replicas whose processes are on this machine."""
        cpu: list[float] = []
        memory: list[float] = []
        now = self._clock.now_ms() / 1000
        if len(self._times) > MOST_PROCESSES:
            self._times.clear()
        for replica in replicas:
            try:
                process = psutil.Process(replica.pid) if replica.pid is not None else None
                if process is None:
                    continue
                times = process.cpu_times()
                spent, began = times.user + times.system, process.create_time()
                memory.append(process.memory_percent())
            except psutil.Error:
                continue
            since, before = self._times.get(process.pid, (began, 0.0))
            self._times[process.pid] = now, spent
            cpu.append(100 * max(0.0, spent - before) / max(now - since, 0.001))
        return (sum(cpu) / len(cpu), sum(memory) / len(memory)) if cpu else (None, None)


def _workers(replicas: Iterable[Replica]) -> Iterator[tuple[str, Histogram]]:
    """What the replicas themselves count, added up; those that do not answer at once are left out."""
    sums: dict[str, Histogram] = {}
    for replica in replicas:
        address = replica.address
        if address is None:
            continue
        transport = httpx.HTTPTransport(uds=address.path) if address.path else None
        base = "http://replica" if address.path else f"http://{address}"
        try:
            with httpx.Client(transport=transport, timeout=WORKER_PATIENCE, trust_env=False) as http:
                text = http.get(f"{base}/metrics").text
        except httpx.HTTPError:
            continue
        for (name, _), histogram in _histograms(_lines(text)).items():
            if name in OF_WORKERS:
                sums[name] = histogram + sums[name] if name in sums else histogram
    yield from sums.items()


#: A line of Prometheus' text format: name, labels, value.
Line = tuple[str, dict[str, str], float]


def _lines(text: str) -> list[Line]:
    read = (_LINE.fullmatch(line) for line in text.splitlines())
    return [
        (found["name"], dict(_LABEL.findall(found["labels"] or "")), float(found["value"])) for found in read if found
    ]


def _histograms(lines: Iterable[Line]) -> dict[tuple[str, str], Histogram]:
    """The histograms among the lines, by name and cluster."""
    buckets: dict[tuple[str, str], list[tuple[float, int]]] = {}
    sums: dict[tuple[str, str], float] = {}
    for name, labels, value in lines:
        cluster = labels.get(_CLUSTER, "")
        if name.endswith("_bucket"):
            bucket = float(labels["le"]), int(value)
            buckets.setdefault((name.removesuffix("_bucket"), cluster), []).append(bucket)
        elif name.endswith("_sum"):
            sums[name.removesuffix("_sum"), cluster] = value
    return {key: Histogram(tuple(sorted(found)), sums.get(key, 0.0)) for key, found in buckets.items()}


def _counters(text: str) -> dict[str, _Counters]:
    """Envoy's statistics in Prometheus' text format, by cluster."""
    found: dict[str, _Counters] = {}
    lines = _lines(text)
    for name, labels, value in lines:
        counters = found.setdefault(labels.get(_CLUSTER, ""), _Counters())
        match name.removeprefix(_REQUESTS), labels.get("envoy_response_code_class"):
            case "completed", _:
                counters.requests = int(value)
            case "active", _:
                counters.in_flight = int(value)
            case "xx", "4":
                counters.requests_4xx = int(value)
            case "xx", "5":
                counters.requests_5xx = int(value)
            case _:
                pass
    for (name, cluster), histogram in _histograms(lines).items():
        if name == f"{_REQUESTS}time":
            found[cluster].latency = histogram
    return found
