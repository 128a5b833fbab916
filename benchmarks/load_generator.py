"""How much of a load does one core of `wye load` drive, compared to wrk, and how exactly does it keep a rate?

Both drive the same endpoint through the same Envoy from 32 connections, in short rounds that take turns. Envoy is slower than
either, so what one core could drive is told by the processor that each takes for a request: wrk in C, which looks at the status
alone; `wye load` in Python, which also keeps each answer's model, its phases, and a histogram for each.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.context import Context
from benchmarks.load import take_turns, wrk
from benchmarks.models import BODY
from benchmarks.plane import Plane
from benchmarks.report import Figure, Report, Table, median

CONNECTIONS = 32
RATES = (100, 1000, 3000)


@dataclass(frozen=True)
class Driven:
    #: Good answers a second, and requests for each second of processor.
    rate: float
    of_a_core: float


def run(context: Context) -> Report:
    report = Report("load_generator", "")
    with Plane(context.folder / "plane", 1) as plane:
        plane.until_serving()
        _side_by_side(report, plane, 2 if context.quick else 7, 1 if context.quick else 3)
        _rates(report, plane, 1 if context.quick else 3)
    return report


def _side_by_side(report: Report, plane: Plane, rounds: int, seconds: int) -> None:
    url = f"{plane.url}/serving-endpoints/{plane.names[0]}/invocations"

    def by_wrk() -> Driven:
        before = _children()
        found = wrk(url, BODY, connections=CONNECTIONS, seconds=seconds, token=plane.token)
        assert not found.failed, found
        return Driven(found.rate, found.requests / (_children() - before))

    def by_wye() -> Driven:
        found = _load(plane, "--connections", str(CONNECTIONS), "--duration", f"{seconds}s")
        return Driven(found["throughput"], found["succeeded"] / (found["busy"] * seconds))

    found = take_turns(rounds, {"wrk": by_wrk, "wye load": by_wye})
    rows: list[list[object]] = [
        [name, median([each.rate for each in all_of]), median([each.of_a_core for each in all_of])]
        for name, all_of in found.items()
    ]
    header = ("Generator", "good answers/s", "requests that one core drives in a second")
    report.tables.append(Table(f"{CONNECTIONS} connections, {rounds} rounds of {seconds} s", header, rows))
    pairs = list(zip(found["wye load"], found["wrk"], strict=True))
    ratio = median([mine.of_a_core / theirs.of_a_core for mine, theirs in pairs])
    report.figures.append(Figure.at_least("requests that one core drives, of those of wrk", ratio, 0.3, "×"))
    report.figures.append(
        Figure("good answers a second, of those of wrk", median([m.rate / t.rate for m, t in pairs]), "×")
    )
    report.data["side_by_side"] = {name: [vars(each) for each in all_of] for name, all_of in found.items()}


def _rates(report: Report, plane: Plane, seconds: int) -> None:
    rows: list[list[object]] = []
    for rate in RATES:
        found = _load(plane, "--rate", str(rate), "--duration", f"{seconds}s")
        latency = found["latency"]
        rows.append(
            [rate, found["throughput"], found["lateness_p99_ms"], latency["p50_ms"], latency["p99_ms"], found["busy"]]
        )
    header = ("asked/s", "answered/s", "sent late by, p99 ms", "p50 ms", "p99 ms", "share of a core")
    report.tables.append(Table(f"At a rate, {seconds} s each", header, rows))


def _load(plane: Plane, *how: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "controlplane.cli", "load", plane.names[0], "--url", plane.url]
    command += ["--token", plane.token, "--file", "-", "--json", *how]
    done = subprocess.run(command, input=BODY.encode(), capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert not found["failed"], found["failures"]
    return found


def _children() -> float:
    """Seconds of processor of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
