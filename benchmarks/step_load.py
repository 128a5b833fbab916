"""How does the autoscaler follow a load that rises and falls in steps?

One entity of between one and four replicas, whose model keeps a processor busy for 5 ms a row; clients that each wait for
an answer, then send the next. Their number is 2, then 12, then 2 again. Each half second: how many requests were under way, how many
replicas were ready, and the p99 of what was answered in it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from urllib.parse import urlsplit

import httpx

from benchmarks import plot
from benchmarks.chaos.client import exchange
from benchmarks.context import Context
from benchmarks.models import BODY, registered
from benchmarks.report import Figure, Report, Table, percentile
from controlplane.rollout.autoscale import UNITS_PER_REPLICA
from tests.e2e.wye import Wye, config

ENDPOINT = "steps"
LOW, HIGH = 2, 12
MOST = 4
#: Seconds between two points of the plot.
GRAIN = 0.5
DOWN_AFTER = 15


def run(context: Context) -> Report:
    low, high, after = (5, 10, 25) if context.quick else (20, 50, 60)
    wye = Wye(context.folder / "s", registry=registered(context.folder), WYE_SCALE_DOWN_AFTER=str(DOWN_AFTER))
    try:
        document = config({"m": 100}, m="busy/1")
        document["served_entities"][0] |= {
            "min_provisioned_concurrency": UNITS_PER_REPLICA,
            "max_provisioned_concurrency": MOST * UNITS_PER_REPLICA,
        }
        assert wye.create(ENDPOINT, document)["state"]["ready"] == "READY"
        return asyncio.run(_measure(wye, [(LOW, low), (HIGH, high), (LOW, after)], context))
    finally:
        wye.stop()


async def _measure(wye: Wye, steps: list[tuple[int, int]], context: Context) -> Report:
    stop = [asyncio.Event() for _ in range(HIGH)]
    began = time.monotonic()
    answers: list[tuple[float, float]] = []
    failures: list[str] = []
    clients = [asyncio.create_task(_client(wye, stop[n], began, answers, failures)) for n in range(LOW)]
    load: list[tuple[float, float]] = []
    replicas: list[tuple[float, float]] = []
    changes = [0.0]
    for number, (count, seconds) in enumerate(steps):
        if number == 1:
            clients += [asyncio.create_task(_client(wye, stop[n], began, answers, failures)) for n in range(LOW, HIGH)]
        if number == 2:
            for each in stop[LOW:]:
                each.set()
        context.say(f"{count} clients for {seconds} s")
        ends = changes[-1] + seconds
        changes.append(ends)
        while (now := time.monotonic() - began) < ends:
            load.append((now, count))
            replicas.append((now, len(await asyncio.to_thread(_ready, wye))))
            await asyncio.sleep(GRAIN - (time.monotonic() - began) % GRAIN)
    for each in stop:
        each.set()
    await asyncio.gather(*clients)

    in_grain: dict[int, list[float]] = defaultdict(list)
    for at, took in answers:
        in_grain[int(at / GRAIN)].append(took * 1e3)
    p99 = [((grain + 1) * GRAIN, percentile(times, 99)) for grain, times in sorted(in_grain.items())]
    wanted = -(-HIGH // UNITS_PER_REPLICA)
    up = next((at - changes[1] for at, count in replicas if at >= changes[1] and count >= wanted), float("nan"))
    down = next((at - changes[2] for at, count in replicas if at >= changes[2] and count <= 1), float("nan"))
    steady = [count for at, count in replicas if changes[1] + up <= at < changes[2]]
    report = Report("step_load", "")
    report.figures = [
        Figure(f"from the step up until {wanted} replicas were ready", up, "s"),
        Figure(f"from the step down until 1 was left (WYE_SCALE_DOWN_AFTER={DOWN_AFTER})", down, "s"),
        Figure.at_most("changes of the number of replicas under steady load", _changes(steady), 0, ""),
        Figure.at_most("failed requests", len(failures), 0, ""),
        Figure("answered requests", len(answers), ""),
    ]
    rows: list[list[object]] = []
    for (count, _), begin, end in zip(steps, changes, changes[1:], strict=False):
        times = [took * 1e3 for at, took in answers if begin <= at < end]
        ready = [number for at, number in replicas if begin <= at < end]
        rows.append(
            [count, end - begin, max(ready), len(times) / (end - begin), *(percentile(times, p) for p in (50, 99))]
        )
    report.tables = [
        Table("Steps", ("Clients", "Seconds", "Replicas, most", "Answers a second", "p50, ms", "p99, ms"), rows)
    ]
    report.notes = [f"failure: {failure}" for failure in failures[:10]]
    report.data = {"load": load, "replicas": replicas, "p99_ms": p99}
    panels = {"clients": {"clients": load}, "replicas ready": {"ready": replicas}, "p99, ms": {"p99": p99}}
    report.plots = {"step_load.svg": plot.lines("A load in steps", "seconds", panels, marker="")}
    return report


def _ready(wye: Wye) -> list[str]:
    try:
        replicas = wye.client.get("/api/2.0/wye/status").json()["replicas"]
    except (httpx.HTTPError, ValueError):
        return []
    return [each["id"] for each in replicas if each["phase"] == "READY"]


def _changes(counts: list[int]) -> int:
    return sum(one != next_ for one, next_ in itertools.pairwise(counts))


async def _client(
    wye: Wye, stop: asyncio.Event, began: float, answers: list[tuple[float, float]], failures: list[str]
) -> None:
    where = urlsplit(wye.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    request = (
        f"POST /serving-endpoints/{ENDPOINT}/invocations HTTP/1.1\r\nHost: wye\r\nAuthorization: Bearer {wye.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()
    try:
        while not stop.is_set():
            sent = time.monotonic()
            words = await asyncio.wait_for(exchange(reader, writer, request), 60)
            if words:
                failures.append(f"{sent - began:.2f} s: {words}")
                await asyncio.sleep(0.1)
            else:
                answers.append((time.monotonic() - began, time.monotonic() - sent))
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        failures.append(f"{time.monotonic() - began:.2f} s: {error!r}")
    finally:
        writer.close()
