"""What does one more replica cost in memory and in time, and what does Envoy add to a request?

Endpoints with one replica each of the same scikit-learn model are created one after the other; every replica answers
some requests before it is measured. Memory is PSS: a page that several processes share counts for each in part. Start
times are those of the API (POST to READY) and those of the worker host (STARTING to READY). Envoy's part is the p50 of
one keep-alive connection through Envoy less that of one straight to the worker's Unix socket, taking turns; an Envoy that
does nothing but pass requests on, to the same socket, shows how much of it is any Envoy's.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.client import Connection, settled
from benchmarks.context import Context
from benchmarks.load import take_turns
from benchmarks.models import BODY, registered
from benchmarks.plain_envoy import plain_envoy
from benchmarks.programs import pss_mb, until
from benchmarks.report import Figure, Report, Table, median, percentile
from tests.e2e.wye import Wye, config


class HostEvents(threading.Thread):
    """Notes when the worker host tells control planes that a replica starts, and that it is ready."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        #: Replica id → when it was first STARTING; and when READY, with its state then.
        self.starting: dict[str, float] = {}
        self.ready: dict[str, tuple[float, dict[str, Any]]] = {}

    def run(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                now, message = time.perf_counter(), json.loads(line)
                if message["type"] == "replica":
                    state = message["replica"]
                    self.starting.setdefault(state["id"], now)
                    if state["phase"] == "READY":
                        self.ready.setdefault(state["id"], (now, state))

    def start_of(self, endpoint_id: str) -> tuple[float, dict[str, Any]]:
        """Seconds from STARTING to READY of an endpoint's first replica, and its state then."""

        def found() -> str | None:
            return next(
                (id_ for id_, (_, s) in self.ready.items() if s["identity"]["endpoint_id"] == endpoint_id), None
            )

        replica = until(found, 10, "the host says READY")
        assert replica
        at, state = self.ready[replica]
        return at - self.starting[replica], state

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join()


def run(context: Context) -> Report:
    registry = registered(context.folder)
    wye = Wye(context.folder / "s", registry=registry)
    report = Report("memory", "")
    try:
        last = _replicas(wye, report, 4 if context.quick else 12, context)
        _envoy(wye, report, last, context)
    finally:
        wye.stop()
    return report


def _replicas(wye: Wye, report: Report, count: int, context: Context) -> tuple[str, Path]:
    """Measure replicas one by one; the endpoint and the socket of the last one."""
    host = psutil.Process(wye.pid("worker_host"))
    events = HostEvents(wye.state_dir / "run" / "host.sock")
    events.start()
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
            by_host, state = events.start_of(ready["id"])
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
    return name, where


def _envoy(wye: Wye, report: Report, last: tuple[str, Path], context: Context) -> None:
    rounds = 5 if context.quick else 15
    name, where = last
    ours, plain, straight = "through Envoy", "through a plain Envoy", "straight to the worker's socket"
    with (
        plain_envoy(where, context.folder) as (url, _),
        Connection(wye.url, wye.token) as by_wye,
        Connection(url) as by_plain,
        Connection(where) as by_socket,
    ):
        ways = {
            ours: (by_wye, by_wye.prepare("POST", f"/serving-endpoints/{name}/invocations", BODY.encode())),
            plain: (by_plain, by_plain.prepare("POST", "/invocations", BODY.encode())),
            straight: (by_socket, by_socket.prepare("POST", "/invocations", BODY.encode())),
        }
        found = take_turns(rounds, {name: lambda way=way: _latencies(*way) for name, way in ways.items()})
    p50 = {way: [percentile(each, 50) for each in runs] for way, runs in found.items()}

    def added(way: str) -> float:
        return median([a - b for a, b in zip(p50[way], p50[straight], strict=True)])

    report.figures += [
        Figure.at_most("added by Envoy at 1 connection, p50, token checked", added(ours), 0.3, "ms"),
        Figure("added by an Envoy that only passes requests on, p50", added(plain), "ms"),
    ]
    report.tables.append(
        Table(
            f"Latency at 1 connection, median of {rounds} rounds of {len(found[ours][0])}, ms",
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
