"""What do a thousand endpoints cost that hardly anybody asks for, and how fast does any of them answer?

Endpoints of one served entity each, scaled to zero, are created one after the other. Memory is what Envoy, the control
plane, the worker host and all under it take (PSS: a page that several share counts for each in part) before and after, divided by
their number. Then some of them, all over the fleet, get their first request on a connection that is open already.
"""

from __future__ import annotations

import random
import time

import psutil

from benchmarks.client import Connection, settled
from benchmarks.context import Context
from benchmarks.models import BODY, registered
from benchmarks.programs import pss_mb, until
from benchmarks.report import Figure, Report, Table, percentile
from tests.e2e.wye import Wye, config

PROGRAMS = ("envoy", "controlplane", "worker_host")


def run(context: Context) -> Report:
    count, woken = (50, 10) if context.quick else (1000, 200)
    wye = Wye(context.folder / "s", registry=registered(context.folder), WYE_SCALE_TO_ZERO_AFTER="3")
    try:
        return _measure(wye, count, woken, context)
    finally:
        wye.stop()


def _measure(wye: Wye, count: int, woken: int, context: Context) -> Report:
    document = config({"m": 100}, m="linear/1")
    document["served_entities"][0]["scale_to_zero_enabled"] = True
    names = [f"idle-{number:04}" for number in range(count)]
    with Connection(wye.url, wye.token) as client:
        assert client.post("/api/2.0/serving-endpoints", {"name": "first", "config": document}).status == 200
        settled(client, "first")
        _all_asleep(wye, 1)
        before = _memory(wye)
        began = time.monotonic()
        for number, name in enumerate(names):
            # Not one by one to READY: a hundred are under way at a time.
            answer = client.post("/api/2.0/serving-endpoints", {"name": name, "config": document})
            assert answer.status == 200, answer
            if number >= 30:
                settled(client, names[number - 30], 120)
            if number % 100 == 99:
                context.say(f"{number + 1} endpoints after {time.monotonic() - began:.0f} s")
        for name in names[-30:]:
            settled(client, name, 120)
        created = time.monotonic() - began
    _all_asleep(wye, count + 1)
    after = _memory(wye)
    cold: list[float] = []
    failed = 0
    for name in random.Random(7).sample(names, woken):
        with Connection(wye.url, wye.token) as client:
            client.get("/.well-known/databricks-config")
            request = client.prepare("POST", f"/serving-endpoints/{name}/invocations", BODY.encode())
            began = time.perf_counter()
            failed += client.send(request).status != 200
            cold.append(time.perf_counter() - began)
    report = Report("idle_fleet", "")
    each = sum(after.values()) - sum(before.values())
    report.figures = [
        Figure("endpoints scaled to zero", count, ""),
        Figure("memory of one of them, all programs together", each / count * 1000, "kB"),
        Figure.at_most("first request of any of them, p50", percentile(cold, 50), 0.15, "s"),
        Figure.at_most("first request of any of them, p99", percentile(cold, 99), 0.5, "s"),
        Figure.at_most(f"failed requests of {woken}", failed, 0, ""),
        Figure("created and ready in a second", count / created, ""),
    ]
    rows = [[name, before[name], after[name], (after[name] - before[name]) / count * 1000] for name in PROGRAMS]
    report.tables = [
        Table("Memory (PSS)", ("Program", "1 endpoint, MB", f"{count + 1} endpoints, MB", "for each, kB"), rows)
    ]
    report.data = {"cold_s": cold}
    return report


def _memory(wye: Wye) -> dict[str, float]:
    """MB of each program and all under it."""
    found = {}
    for name in PROGRAMS:
        process = psutil.Process(wye.pid(name))
        found[name] = sum(pss_mb(each.pid) for each in (process, *process.children(recursive=True)))
    return found


def _all_asleep(wye: Wye, count: int) -> None:
    def asleep() -> bool:
        replicas = wye.client.get("/api/2.0/wye/status").json()["replicas"]
        return len(replicas) == count and all(each["phase"] == "ASLEEP" and each["pid"] is None for each in replicas)

    until(asleep, 300, "all sleep", pause=0.5)
