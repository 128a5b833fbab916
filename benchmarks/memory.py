"""What does one more replica cost in memory and in time, and what does Envoy add to a request?

Endpoints with one replica each of the same scikit-learn model are created one after the other; every replica answers
some requests before it is measured. Memory is PSS: a page that several processes share counts for each in part. Start
times are those of the API (POST to READY) and those of the worker host (STARTING to READY). Envoy's part is the p50 of
one keep-alive connection through Envoy less that of one straight to the worker's Unix socket, taking turns.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.client import Connection, settled
from benchmarks.context import Context
from benchmarks.load import take_turns
from benchmarks.models import BODY, registered
from benchmarks.programs import pss_mb
from benchmarks.report import Figure, Report, Table, median, percentile
from tests.e2e.wye import Wye, config


class HostEvents:
    """Listens to what the worker host tells control planes."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.settimeout(60)
        self._lines = self._socket.makefile("rb")
        self.hello: dict[str, Any] = json.loads(self._lines.readline())

    def start_of_next(self) -> tuple[float, dict[str, Any]]:
        """Seconds from STARTING to READY of the replica that starts next, and its state then."""
        began: dict[str, float] = {}
        while True:
            message = json.loads(self._lines.readline())
            if message["type"] != "replica":
                continue
            state = message["replica"]
            began.setdefault(state["id"], time.perf_counter())
            if state["phase"] == "READY":
                return time.perf_counter() - began[state["id"]], state
            assert state["phase"] == "STARTING", state

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def run(context: Context) -> Report:
    registry = registered(context.folder)
    wye = Wye(context.folder / "s", registry=registry)
    report = Report("memory", "")
    try:
        last = _replicas(wye, report, 4 if context.quick else 12, context)
        _envoy(wye, report, last, 5 if context.quick else 15)
    finally:
        wye.stop()
    return report


def _replicas(wye: Wye, report: Report, count: int, context: Context) -> tuple[str, Path]:
    """Measure replicas one by one; the endpoint and the socket of the last one."""
    host = psutil.Process(wye.pid("worker_host"))
    events = HostEvents(wye.state_dir / "run" / "host.sock")
    rows: list[list[object]] = []
    totals = [sum(pss_mb(each.pid) for each in (host, *host.children(recursive=True)))]
    name, where = "", Path()
    with Connection(wye.url, wye.token) as client:
        for number in range(count):
            name = f"replica-{number}"
            began = time.perf_counter()
            document = {"name": name, "config": config({"m": 100}, m="linear/1")}
            answer = client.post("/api/2.0/serving-endpoints", document)
            assert answer.status == 200, answer
            ready = settled(client, name)
            by_api = time.perf_counter() - began
            assert ready["state"]["ready"] == "READY", ready
            by_host, state = events.start_of_next()
            where = Path(state["address"]["path"])
            request = client.prepare("POST", f"/serving-endpoints/{name}/invocations", BODY.encode())
            for _ in range(100):
                assert client.send(request).status == 200
            totals.append(sum(pss_mb(each.pid) for each in (host, *host.children(recursive=True))))
            rows.append([number + 1, by_api, by_host, totals[-1] - totals[-2], state["pid"]])
    events.close()
    for row in rows:
        row[-1] = pss_mb(row[-1])  # type: ignore[arg-type]  # of each, now that all share
    context.say(f"{count} replicas measured")
    further = rows[1:]
    report.figures += [
        Figure.at_most(
            "memory of one more replica (growth of all PSS)", median([float(str(r[3])) for r in further]), 30, "MB"
        ),
        Figure("PSS of one replica among all", median([float(str(r[4])) for r in rows]), "MB"),
        Figure(f"worker host, fork server and {count} replicas, PSS", totals[-1], "MB"),
        Figure("start of a replica, POST to READY, p50", median([float(str(r[1])) for r in further]), "s"),
        Figure("start of a replica in the worker host, p50", median([float(str(r[2])) for r in further]), "s"),
    ]
    report.tables.append(
        Table(
            "Replicas of a linear scikit-learn model, one after the other",
            ("Replica", "POST to READY, s", "in the host, s", "growth of all PSS, MB", "its PSS in the end, MB"),
            rows,
        )
    )
    report.notes.append(f"Worker host and fork server before the first replica: {totals[0]:.0f} MB PSS.")
    report.notes.append("Cold starts from zero are not measured here: no endpoint scales to zero yet.")
    return name, where


def _envoy(wye: Wye, report: Report, last: tuple[str, Path], rounds: int) -> None:
    name, where = last
    with Connection(wye.url, wye.token) as through, Connection(where) as straight:
        contenders = {
            "through Envoy": (
                through,
                through.prepare("POST", f"/serving-endpoints/{name}/invocations", BODY.encode()),
            ),
            "straight to the worker's socket": (straight, straight.prepare("POST", "/invocations", BODY.encode())),
        }
        found = take_turns(rounds, {name: lambda way=way: _latencies(*way) for name, way in contenders.items()})
    p50 = {way: [percentile(each, 50) for each in runs] for way, runs in found.items()}
    ways = list(contenders)
    added = median([a - b for a, b in zip(p50[ways[0]], p50[ways[1]], strict=True)])
    report.figures.append(Figure.at_most("added by Envoy at 1 connection, p50, token checked", added, 0.3, "ms"))
    report.tables.append(
        Table(
            f"Latency at 1 connection, median of {rounds} rounds of {len(found[ways[0]][0])}, ms",
            ("Way", "p50", "p99"),
            [[way, median(p50[way]), median([percentile(each, 99) for each in found[way]])] for way in ways],
        )
    )


def _latencies(connection: Connection, request: bytes, count: int = 300) -> list[float]:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        answer = connection.send(request)
        took.append((time.perf_counter() - began) * 1e3)
        assert answer.status == 200, answer
    return took
