"""How long does a request wait that finds its endpoint scaled to zero?

An endpoint that may scale to zero is left alone until its replica sleeps; then one request is sent on a connection that
is open already, and timed to the first byte of its answer. A replica that is awake is asked in the same way, for
comparison.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.models import BODY, registered
from benchmarks.programs import until
from benchmarks.report import Figure, Report, Table, percentile
from tests.e2e.wye import Wye, config

#: Endpoints that fall asleep at the same time and are woken one after the other.
ENDPOINTS = 10
IDLE_SECONDS = 2


def run(context: Context) -> Report:
    report = Report("cold_start", "")
    wye = Wye(context.folder / "s", registry=registered(context.folder), WYE_SCALE_TO_ZERO_AFTER=str(IDLE_SECONDS))
    try:
        _measure(wye, report, 1 if context.quick else 10, context)
    finally:
        wye.stop()
    return report


def _measure(wye: Wye, report: Report, rounds: int, context: Context) -> None:
    document: dict[str, Any] = config({"m": 100}, m="linear/1")
    document["served_entities"][0]["scale_to_zero_enabled"] = True
    names = [f"sleepy-{number}" for number in range(ENDPOINTS)]
    for name in names:
        wye.create(name, document)
    cold: list[float] = []
    warm: list[float] = []
    failed = 0
    for turn in range(rounds):
        until(lambda: _all_asleep(wye), 60, "all replicas sleep", pause=0.25)
        for name in names:
            with Connection(wye.url, wye.token) as client:
                client.get("/.well-known/databricks-config")  # the connection is there
                request = client.prepare("POST", f"/serving-endpoints/{name}/invocations", BODY.encode())
                for times in (cold, warm):
                    began = time.perf_counter()
                    failed += client.send(request).status != 200
                    times.append((time.perf_counter() - began) * 1e3)
        context.say(f"round {turn + 1} of {rounds}")
    report.figures = [
        Figure.at_most("first request of an endpoint that sleeps, p50", percentile(cold, 50) / 1e3, 0.15, "s"),
        Figure.at_most("first request of an endpoint that sleeps, p99", percentile(cold, 99) / 1e3, 0.5, "s"),
        Figure.at_most("failed requests", failed, 0, ""),
    ]
    report.tables = [
        Table(
            f"A linear scikit-learn model, {len(cold)} wakings, ms",
            ("Request", "p50", "p90", "p99", "longest"),
            [
                [what, *(percentile(times, percent) for percent in (50, 90, 99, 100))]
                for what, times in (("that wakes the replica", cold), ("the next one", warm))
            ],
        )
    ]
    report.data = {"cold_ms": cold, "warm_ms": warm}


def _all_asleep(wye: Wye) -> bool:
    replicas = wye.client.get("/api/2.0/wye/status").json()["replicas"]
    return len(replicas) == ENDPOINTS and all(each["phase"] == "ASLEEP" for each in replicas)
