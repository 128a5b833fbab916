"""How long does it take from the PUT of new weights to the first request that is served under them?

A client polls the endpoint over one keep-alive connection, back to back. Another sends `PUT …/config` that turns the
split from 100/0 to 0/100 or back, and when the first answer of the other model is there, waits until the endpoint says
NOT_UPDATING. All three times count from just before the PUT is sent.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import closing
from pathlib import Path

from benchmarks.client import Connection, settled
from benchmarks.context import Context
from benchmarks.models import BODY, registered
from benchmarks.report import Figure, Report, Table, percentile
from tests.e2e.wye import Wye, config

ENDPOINT = "quick"


class Probe(threading.Thread):
    """Asks for predictions back to back, and notes when the first one of the expected model was there."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._request = connection.prepare("POST", f"/serving-endpoints/{ENDPOINT}/invocations", BODY.encode())
        self._expected = ""
        self._seen = threading.Event()
        self._ending = threading.Event()
        self._first = (0.0, 0.0)
        self.failures: list[str] = []
        self.round_trips: list[float] = []

    def expect(self, model: str) -> None:
        self._seen.clear()
        self._expected = model

    def wait(self) -> tuple[float, float]:
        """When the first request that the expected model answered was sent, and when its answer was there."""
        assert self._seen.wait(30), f"{self._expected} did not answer within 30 s; failures: {self.failures[:3]}"
        return self._first

    def end(self) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        while not self._ending.is_set():
            sent = time.perf_counter()
            answer = self._connection.send(self._request)
            there = time.perf_counter()
            self.round_trips.append(there - sent)
            if answer.status != 200:
                self.failures.append(f"{answer.status} {answer.body[:200]!r}")
            elif answer.headers.get("served-model-name") == self._expected and not self._seen.is_set():
                self._first = (sent, there)
                self._seen.set()


def run(context: Context) -> Report:
    changes = 60 if context.quick else 400
    registry = registered(context.folder)
    wye = Wye(context.folder / "s", registry=registry)
    try:
        return _measure(wye, changes, context)
    finally:
        wye.stop()


def _measure(wye: Wye, changes: int, context: Context) -> Report:
    report = Report("update_latency", "")
    wye.create(ENDPOINT, config({"a": 100, "b": 0}, a="linear/1", b="other/1"))
    replicas = wye.replicas()
    times: list[dict[str, float]] = []
    with Connection(wye.url, wye.token) as api, Connection(wye.url, wye.token) as predictions:
        probe = Probe(predictions)
        probe.start()
        for number in range(changes + 5):
            if number == 5:  # the first few warm caches and connections
                times.clear()
                probe.round_trips.clear()
            target = "ba"[number % 2]
            split = {"a": 100, "b": 0} if target == "a" else {"a": 0, "b": 100}
            document = config(split, a="linear/1", b="other/1")
            probe.expect(target)
            began = time.perf_counter()
            answer = api.put(f"/api/2.0/serving-endpoints/{ENDPOINT}/config", document)
            answered = time.perf_counter()
            assert answer.status == 200, answer
            sent, there = probe.wait()
            settled(api, ENDPOINT)
            said = time.perf_counter()
            times.append(
                {
                    "PUT answered": (answered - began) * 1e3,
                    "first request under it sent": (sent - began) * 1e3,
                    "first request under it answered": (there - began) * 1e3,
                    "endpoint says NOT_UPDATING": (said - began) * 1e3,
                }
            )
            time.sleep(random.uniform(0.0, 0.02))  # not in step with anything
            if number % 100 == 99:
                context.say(f"{number + 1} changes")
        probe.end()
        idle = [_timed(lambda: api.get(f"/api/2.0/serving-endpoints/{ENDPOINT}")) for _ in range(100)]
    first = [each["first request under it answered"] for each in times]
    report.figures = [
        Figure.at_most("PUT to first request under it, p50", percentile(first, 50), 20, "ms"),
        Figure.at_most("PUT to first request under it, p99", percentile(first, 99), 100, "ms"),
        Figure.at_most("replicas restarted", float(wye.replicas() != replicas), 0, ""),
        Figure.at_most("failed requests of the polling client", float(len(probe.failures)), 0, ""),
    ]
    report.tables = [
        Table(
            f"Since the PUT was sent, {len(times)} changes, ms",
            ("", "p50", "p90", "p99", "longest"),
            [_row(name, [each[name] for each in times]) for name in times[0]],
        ),
        Table(
            "For comparison on the same machine, ms",
            ("", "p50", "p90", "p99", "longest"),
            [
                _row("a prediction of the polling client", [t * 1e3 for t in probe.round_trips]),
                _row("GET of the endpoint, nothing else going on", [t * 1e3 for t in idle]),
                _row("write and fsync of 4 KiB (each PUT is two commits)", _fsyncs(context.folder)),
            ],
        ),
    ]
    report.data = {"times_ms": times}
    return report


def _row(name: str, values: list[float]) -> list[object]:
    return [name, *(percentile(values, percent) for percent in (50, 90, 99, 100))]


def _timed(call: object) -> float:
    began = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - began


def _fsyncs(folder: Path) -> list[float]:
    took = []
    with closing(os.fdopen(os.open(folder / "fsync", os.O_CREAT | os.O_WRONLY), "wb", 0)) as file:
        for _ in range(100):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return took
