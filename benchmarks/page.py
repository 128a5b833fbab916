"""How long the control plane takes for the Serving page with 1,000 endpoints, and how much a browser has to fetch for it.

Each request is sent to the control plane's own socket and timed to its last byte, so this is the server's time alone.
"""

from __future__ import annotations

import re
import time
from statistics import median, quantiles

from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.plane import Plane
from benchmarks.report import Figure, Report, Table

ENDPOINTS = 1000
#: What is asked for: in the table's words, and as a path.
VIEWS = (
    ("first view of the list", "/ui/endpoints/"),
    ("its last page", "/ui/endpoints/?page=20"),
    ("searched", "/ui/endpoints/?q=endpoint-007"),
    ("filtered by state", "/ui/endpoints/?state=good"),
    ("troubled ones first", "/ui/endpoints/?sort=state"),
    ("busiest first", "/ui/endpoints/?sort=-rate"),
    ("one endpoint", "/ui/endpoints/endpoint-00500/"),
    ("its live part", "/ui/endpoints/endpoint-00500/live"),
    ("form of its configuration", "/ui/endpoints/endpoint-00500/edit/"),
    ("control plane", "/ui/control-plane/"),
)


def run(context: Context) -> Report:
    report = Report("page", "")
    rounds = 20 if context.quick else 100
    context.say(f"{ENDPOINTS} endpoints, {rounds} requests of each view")
    rows: list[list[object]] = []
    with Plane(context.folder / "p", ENDPOINTS) as plane:
        plane.until_serving()
        with plane.api() as api:
            for name, path in VIEWS:
                took, size = _timed(api, path, rounds)
                rows.append([name, median(took), quantiles(took, n=20)[-1], max(took), size / 1000])
            fetched = _fetched(api, "/ui/endpoints/")
            of_one = _fetched(api, "/ui/endpoints/endpoint-00500/")
    report.figures += [
        Figure.at_most(
            f"server time of the first view at {ENDPOINTS:,} endpoints, p50", _number(rows[0][1]), 100, "ms"
        ),
        Figure.at_most(
            f"server time of the slowest order or filter at {ENDPOINTS:,}, p50",
            max(_number(row[1]) for row in rows[:6]),
            100,
            "ms",
        ),
        Figure.at_most("first view with all that it loads, not compressed", fetched, 200, "kB"),
        Figure("an endpoint's page with all that it loads, not compressed", of_one, "kB"),
    ]
    report.tables.append(
        Table(
            f"Server time, {ENDPOINTS:,} endpoints of two models each, {rounds} requests one after the other",
            ("View", "p50, ms", "p95, ms", "most, ms", "HTML, kB"),
            rows,
        )
    )
    return report


def _timed(api: Connection, path: str, rounds: int) -> tuple[list[float], int]:
    request, took, size = api.prepare("GET", path), [], 0
    for number in range(rounds + 3):
        began = time.perf_counter()
        answer = api.send(request)
        if number >= 3:  # templates are compiled at first use
            took.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200, (path, answer.status, answer.body[:200])
        size = len(answer.body)
    return took, size


def _fetched(api: Connection, path: str) -> float:
    """Kilobytes of a page and of every file it names."""
    html = api.send(api.prepare("GET", path)).body
    files = set(re.findall(rb'(?:src|href)="(/ui/static/[^"]+)"', html))
    return (len(html) + sum(len(api.send(api.prepare("GET", file.decode())).body) for file in files)) / 1000


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value
