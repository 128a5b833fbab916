"""How long does a request wait that finds its endpoint scaled to zero, and do a hundred at once all get their answers?

Endpoints that may scale to zero are left alone until their replicas sleep; then one request is sent to each on a connection
that is open already, and timed to the first byte of its answer. A replica that is awake is asked in the same way, for
comparison. Once with models that run in Wye's own Python environment, once with models that have one of their own, built
before. Then a hundred clients ask a sleeping endpoint at the same time.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.models import BODY, registered
from benchmarks.programs import until
from benchmarks.report import Figure, Report, Table, percentile
from tests.e2e.wye import Wye, config

#: Endpoints that fall asleep at the same time and are woken one after the other.
ENDPOINTS = 20
IDLE_SECONDS = 2
#: Clients that ask at once.
CROWD = 100


def run(context: Context) -> Report:
    rounds = 2 if context.quick else 10
    report = Report("cold_start", "")
    registry = registered(context.folder)
    rows: list[list[object]] = []
    failed = 0
    for what, short, environments in (
        ("Wye's own environment", "s", "local"),
        ("an environment of its own", "e", "uv"),
    ):
        wye = Wye(
            context.folder / short,
            registry=registry,
            WYE_SCALE_TO_ZERO_AFTER=str(IDLE_SECONDS),
            WYE_ENVIRONMENTS=environments,
        )
        try:
            names = _endpoints(wye, 600)
            if not names:
                report.notes.append(f"Left out: {what}; it could not be built (uv needs the package registry).")
                continue
            cold, warm, wrong = _wake(wye, names, rounds, context, what)
            failed += wrong
            report.data[f"{short}_cold_ms"], report.data[f"{short}_warm_ms"] = cold, warm
            for which, times in (("wakes", cold), ("next", warm)):
                rows.append([what, which, len(times), *(percentile(times, each) for each in (50, 90, 99, 100))])
            if environments == "local":
                _until_asleep(wye, len(names))
                crowd, wrong = _crowd(wye, names[0], CROWD)
                failed += wrong
                rows.append([what, f"{CROWD} at once", CROWD, *(percentile(crowd, each) for each in (50, 90, 99, 100))])
                report.figures += [
                    Figure.at_most(
                        "first request of an endpoint that sleeps, p50", percentile(cold, 50) / 1e3, 0.15, "s"
                    ),
                    Figure.at_most(
                        "first request of an endpoint that sleeps, p99", percentile(cold, 99) / 1e3, 0.5, "s"
                    ),
                ]
            else:
                report.figures += [
                    Figure("the same with an environment of its own, p50", percentile(cold, 50) / 1e3, "s"),
                    Figure("the same with an environment of its own, p99", percentile(cold, 99) / 1e3, "s"),
                ]
        finally:
            wye.stop()
    report.figures.append(Figure.at_most(f"failed requests, {CROWD} first ones at once among them", failed, 0, ""))
    report.tables = [
        Table(
            "A linear scikit-learn model, ms to the first byte of the answer",
            ("The model runs in", "Request", "Times", "p50", "p90", "p99", "longest"),
            rows,
        )
    ]
    return report


def _endpoints(wye: Wye, patience: float) -> list[str]:
    """The names of endpoints that may sleep; none when they cannot be deployed."""
    document: dict[str, Any] = config({"m": 100}, m="linear/1")
    document["served_entities"][0]["scale_to_zero_enabled"] = True
    names = [f"sleepy-{number}" for number in range(ENDPOINTS)]
    for name in names:
        answer = wye.client.post("/api/2.0/serving-endpoints", json={"name": name, "config": document})
        assert answer.status_code == 200, answer.text
        if wye.settled(name, patience)["state"]["ready"] != "READY":
            return []
    return names


def _wake(wye: Wye, names: list[str], rounds: int, context: Context, what: str) -> tuple[list[float], list[float], int]:
    """Milliseconds of first requests and of the next ones, and how many were not answered with 200."""
    cold: list[float] = []
    warm: list[float] = []
    failed = 0
    for turn in range(rounds):
        _until_asleep(wye, len(names))
        for name in names:
            with Connection(wye.url, wye.token) as client:
                client.get("/.well-known/databricks-config")  # the connection is there
                request = client.prepare("POST", f"/serving-endpoints/{name}/invocations", BODY.encode())
                for times in (cold, warm):
                    began = time.perf_counter()
                    failed += client.send(request).status != 200
                    times.append((time.perf_counter() - began) * 1e3)
        context.say(f"{what}: round {turn + 1} of {rounds}")
    return cold, warm, failed


def _crowd(wye: Wye, name: str, count: int) -> tuple[list[float], int]:
    """The same for many clients at once, each with a connection that is open."""
    clients = [Connection(wye.url, wye.token) for _ in range(count)]

    def ask(client: Connection) -> tuple[float, bool]:
        request = client.prepare("POST", f"/serving-endpoints/{name}/invocations", BODY.encode())
        began = time.perf_counter()
        try:
            good = client.send(request).status == 200
        except (TimeoutError, OSError):
            good = False
        return (time.perf_counter() - began) * 1e3, good

    with ThreadPoolExecutor(count) as threads:
        found = list(threads.map(ask, clients))
    for client in clients:
        client.__exit__(None, None, None)
    return [took for took, _ in found], sum(not good for _, good in found)


def _until_asleep(wye: Wye, count: int) -> None:
    def asleep() -> bool:
        try:
            replicas = wye.client.get("/api/2.0/wye/status").json()["replicas"]
        except (httpx.HTTPError, ValueError):
            return False
        return len(replicas) == count and all(each["phase"] == "ASLEEP" for each in replicas)

    until(asleep, 120, "all replicas sleep", pause=0.25)
