"""Does anything get slower because other endpoints exist? One endpoint against 1,000 and 10,000, of two entities each.

The control plane is `python -m controlplane` as it stands, with its store, and the Envoy a real one; in the place of the
worker host is one that only speaks its protocol, and every replica is the same tiny upstream, so that ten thousand
endpoints fit on one machine. All sizes run at the same time and take turns, so that noise hits all alike. Updates and
requests are of the endpoint that comes last by name and by age.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import psutil

from benchmarks.client import Connection, settled
from benchmarks.context import Context
from benchmarks.load import Found, take_turns, wrk
from benchmarks.models import BODY
from benchmarks.plane import Plane, weights
from benchmarks.programs import cpu_seconds, rss_mb
from benchmarks.report import Figure, Report, Table, median, percentile

#: Changes that come before the ones that count, on each plane.
WARM = 5


class Change:
    """Turns the last endpoint's split round, and times it against a client that polls the endpoint back to back."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._turn = 0

    def __call__(self) -> tuple[float, float]:
        """Milliseconds from the PUT to the first request under the new weights, and to NOT_UPDATING."""
        endpoint, self._turn = self._plane.names[-1], self._turn + 1
        target, share = ("b", 0) if self._turn % 2 else ("a", 100)
        began, found = 0.0, 0.0
        polling, stopping = threading.Event(), threading.Event()

        def poll() -> None:
            nonlocal found
            with Connection(self._plane.url, self._plane.token) as client:
                request = client.prepare("POST", f"/serving-endpoints/{endpoint}/invocations", BODY.encode())
                while not stopping.is_set():
                    answer = client.send(request)
                    assert answer.status == 200, answer
                    if polling.is_set() and answer.headers["served-model-name"] == target:
                        found = time.perf_counter()
                        return
                    polling.set()

        poller = threading.Thread(target=poll, daemon=True)
        poller.start()
        polling.wait(10)
        with self._plane.api() as api:
            began = time.perf_counter()
            weights(api, endpoint, share)
            poller.join(30)
            stopping.set()
            assert found, f"{target} did not answer within 30 s"
            settled(api, endpoint)
            return (found - began) * 1e3, (time.perf_counter() - began) * 1e3


def run(context: Context) -> Report:
    sizes = [1, 1000] if context.quick else [1, 1000, 10000]
    report = Report("endpoints_scale", "")
    starts: list[list[object]] = []
    planes: dict[int, Plane] = {}
    with ExitStack() as running:
        for size in sizes:
            context.say(f"starting {size} endpoints")
            plane = planes[size] = Plane(context.folder / f"{size}", size)
            began = time.monotonic()
            running.enter_context(plane)
            answering = time.monotonic() - began
            plane.until_serving()
            cpu = cpu_seconds(plane.control_plane.pid), cpu_seconds(plane.envoy.pid)
            starts.append([size, answering, time.monotonic() - began, *cpu, sum(plane.sent().values())])
        report.tables.append(
            Table(
                "First start, one after the other",
                (
                    "Endpoints",
                    "API answers, s",
                    "Envoy has every cluster and serves, s",
                    "control plane's processor time till then, s",
                    "Envoy's, s",
                    "resources sent",
                ),
                starts,
            )
        )
        _idle(report, planes)
        _updates(report, planes, 40 if context.quick else 150)
        context.say("updates measured")
        _throughput(report, planes, context)
        context.say("throughput measured")
        _memory(report, planes)
        _restarts(report, planes, 2 if context.quick else 3)
    return report


def _idle(report: Report, planes: dict[int, Plane], seconds: float = 10.0) -> None:
    def used() -> dict[int, tuple[float, float]]:
        return {n: (cpu_seconds(p.control_plane.pid), cpu_seconds(p.envoy.pid)) for n, p in planes.items()}

    time.sleep(3)  # what follows a start is over
    before = used()
    time.sleep(seconds)
    rows = [
        [size, *((b - a) / seconds * 100 for a, b in zip(before[size], now, strict=True))]
        for size, now in used().items()
    ]
    report.tables.append(Table("Idle, percent of a core", ("Endpoints", "control plane", "Envoy"), rows))
    report.figures.append(Figure(f"{rows[-1][0]:,} idle endpoints, control plane", rows[-1][1], "% of a core"))
    report.figures.append(Figure(f"{rows[-1][0]:,} idle endpoints, Envoy", rows[-1][2], "% of a core"))


def _updates(report: Report, planes: dict[int, Plane], rounds: int) -> None:
    changes = {f"{size}": Change(plane) for size, plane in planes.items()}
    for change in changes.values():
        for _ in range(WARM + WARM % 2):
            change()
    found = take_turns(rounds, changes)
    first = {name: [each[0] for each in times] for name, times in found.items()}
    done = {name: [each[1] for each in times] for name, times in found.items()}
    for size in list(planes)[1:]:
        for what, times in (("first request under new weights", first), ("new weights acknowledged", done)):
            ratio = median(times[f"{size}"]) / median(times["1"])
            report.figures.append(Figure.at_most(f"{what}, one of {size:,} against the only one", ratio, 2, "x"))
    report.tables.append(
        Table(
            f"Weight changes of the last endpoint, {rounds} rounds, ms since the PUT (straight to the control plane)",
            ("Endpoints", "first request p50", "p90", "p99", "acknowledged p50", "p90", "p99"),
            [[name, *(percentile(times[name], p) for times in (first, done) for p in (50, 90, 99))] for name in found],
        )
    )
    report.data["updates_ms"] = found


def _throughput(report: Report, planes: dict[int, Plane], context: Context) -> None:
    seconds, rounds = (2, 3) if context.quick else (3, 9)

    def load(plane: Plane, name: str) -> Found:
        url = f"{plane.url}/serving-endpoints/{name}/invocations"
        return wrk(url, BODY, connections=64, seconds=seconds, token=plane.token)

    contenders = {"the only one": lambda: load(planes[1], planes[1].names[0])}
    for size, plane in list(planes.items())[1:]:
        contenders[f"first of {size:,}"] = lambda plane=plane: load(plane, plane.names[0])
        contenders[f"last of {size:,}"] = lambda plane=plane: load(plane, plane.names[-1])
    found = take_turns(rounds, contenders)
    rates = {name: [each.rate for each in runs] for name, runs in found.items()}
    for size in list(planes)[1:]:
        for other in (f"first of {size:,}", "the only one"):
            ratio = median([b / a for a, b in zip(rates[other], rates[f"last of {size:,}"], strict=True)])
            report.figures.append(Figure.at_least(f"req/s, last of {size:,} against {other}", ratio, 0.95, "x"))
    report.figures.append(
        Figure.at_most("failed requests", sum(each.failed for runs in found.values() for each in runs), 0, "")
    )
    report.tables.append(
        Table(
            f"Throughput, 64 connections, one Envoy worker thread, {rounds} rounds of {seconds} s, median of rounds",
            ("Endpoint", "req/s", "least", "most", "p50, ms", "p99, ms"),
            [
                [
                    name,
                    median(rates[name]),
                    min(rates[name]),
                    max(rates[name]),
                    median([each.p50_ms for each in runs]),
                    median([each.p99_ms for each in runs]),
                ]
                for name, runs in found.items()
            ],
        )
    )


def _memory(report: Report, planes: dict[int, Plane]) -> None:
    rows = []
    for size, plane in planes.items():
        control_plane = rss_mb(plane.control_plane.pid)
        if size > 1:
            limit = Figure.at_most if size == 10000 else None
            name = f"control plane with {size:,} endpoints, RSS"
            report.figures.append(limit(name, control_plane, 300, "MB") if limit else Figure(name, control_plane, "MB"))
            per = (plane.envoy_allocated() - planes[1].envoy_allocated()) / (size - 1) / 1e3
            report.figures.append(Figure(f"Envoy, allocated per endpoint (of {size:,})", per, "KB"))
        rows.append([size, control_plane, rss_mb(plane.envoy.pid), plane.envoy_allocated() / 1e6])
    report.tables.append(
        Table("Memory after all this, MB", ("Endpoints", "control plane RSS", "Envoy RSS", "Envoy allocated"), rows)
    )


def _restarts(report: Report, planes: dict[int, Plane], times: int) -> None:
    rows: list[list[object]] = []
    for size, plane in planes.items():
        found = [(*plane.restart(), plane.sent(), cpu_seconds(plane.control_plane.pid)) for _ in range(times)]
        answering, in_sync = median([each[0] for each in found]), median([each[1] for each in found])
        # The one resource is the weights that were put to see that the two are in sync.
        resent = max(sum(sent.values()) - 1 for _, _, sent, _ in found)
        after = psutil.Process(plane.control_plane.pid).memory_info().rss / 1e6
        cpu = median([each[3] for each in found])
        rows.append([size, answering, in_sync, max(each[1] for each in found), cpu, resent, after])
        if size == max(planes):
            report.figures += [
                Figure.at_most(f"restart with {size:,} endpoints to serving API", answering, 5, "s"),
                Figure(f"restart with {size:,} endpoints to Envoy in sync", in_sync, "s"),
                Figure.at_most(f"resources sent again at a restart with {size:,} endpoints", resent, 0, ""),
                Figure(f"control plane just restarted with {size:,} endpoints, RSS", after, "MB"),
            ]
    report.tables.append(
        Table(
            f"kill -9 of the control plane and a new one, median of {times}",
            (
                "Endpoints",
                "API answers, s",
                "Envoy in sync, s",
                "slowest, s",
                "control plane's processor time till then, s",
                "resources sent again",
                "RSS then, MB",
            ),
            rows,
        )
    )
