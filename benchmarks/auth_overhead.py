"""What do tokens cost a request, and how fast does a revoked one stop working?

The same endpoint behind Envoys with tokens, with tokens and ten thousand revoked ones, and without tokens, each with one
worker thread. One connection, requests in short rounds that take turns; a figure is the median over rounds of the
difference between neighbours. The replica is a tiny upstream, so that what Envoy does stands out.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from sqlalchemy import insert

from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.load import take_turns
from benchmarks.models import BODY
from benchmarks.plane import Plane
from benchmarks.report import Figure, Report, Table, median, percentile
from controlplane.store.database import open_database
from controlplane.store.tables import tokens

REVOKED = 10_000
REQUESTS = 400


def run(context: Context) -> Report:
    report = Report("auth_overhead", "")
    with ExitStack() as running:
        planes = {
            name: running.enter_context(_plane(context, name, no_auth=name == "without", revoked=revoked))
            for name, revoked in (("without", 0), ("tokens", 0), ("revoked", REVOKED))
        }
        for plane in planes.values():
            plane.until_serving()
        _latency(report, planes, 7 if context.quick else 25)
        _revocation(report, planes, 10 if context.quick else 100)
    return report


def _plane(context: Context, name: str, *, no_auth: bool, revoked: int) -> Plane:
    plane = Plane(context.folder / name, 1, envoy_threads=1)
    plane.settings = replace(plane.settings, no_auth=no_auth)
    if revoked:
        row = {"user": "u", "groups": "[]", "comment": "", "creator": "u", "created_ms": 1, "revoked_ms": 2}
        engine = open_database(plane.settings.database_url)
        with engine.begin() as connection:
            connection.execute(insert(tokens), [{**row, "id": secrets.token_hex(16)} for _ in range(revoked)])
        engine.dispose()
    return plane


def _latency(report: Report, planes: dict[str, Plane], rounds: int) -> None:
    basic = "Basic " + base64.b64encode(f"token:{planes['tokens'].token}".encode()).decode()
    contenders: dict[str, Callable[[], float]] = {
        "no tokens": _asking(planes["without"], {}),
        "Bearer": _asking(planes["tokens"], _bearer(planes["tokens"])),
        f"Bearer, {REVOKED:,} tokens revoked": _asking(planes["revoked"], _bearer(planes["revoked"])),
        "Basic": _asking(planes["tokens"], {"authorization": basic}),
    }
    for contender in contenders.values():
        contender()
    found = take_turns(rounds, contenders)
    without = found["no tokens"]
    rows: list[list[object]] = []
    for name, times in found.items():
        added = median([mine - base for mine, base in zip(times, without, strict=True)])
        rows.append([name, median(times), added])
        if name.startswith("Bearer"):
            report.figures.append(Figure.at_most(f"added at p50, {name}", added / 1000, 0.1, "ms"))
        elif name == "Basic":
            report.figures.append(Figure(f"added at p50, {name}", added / 1000, "ms"))
    title = f"p50 at one connection, {rounds} rounds of {REQUESTS} requests, µs"
    report.tables.append(Table(title, ("Credentials", "p50", "added"), rows))
    report.data["p50_us"] = found


def _bearer(plane: Plane) -> dict[str, str]:
    return {"authorization": f"Bearer {plane.token}"}


def _asking(plane: Plane, headers: dict[str, str]) -> Callable[[], float]:
    def ask() -> float:
        """p50 in microseconds."""
        with Connection(plane.url, headers=headers) as client:
            request = client.prepare("POST", f"/serving-endpoints/{plane.names[0]}/invocations", BODY.encode())
            took = []
            for _ in range(REQUESTS):
                began = time.perf_counter()
                answer = client.send(request)
                took.append(time.perf_counter() - began)
                assert answer.status == 200, answer
            return median(took) * 1e6

    return ask


def _revocation(report: Report, planes: dict[str, Plane], count: int) -> None:
    rows: list[list[object]] = []
    for name, already in (("tokens", 0), ("revoked", REVOKED)):
        plane = planes[name]
        took, used = [], 0
        with plane.api() as api:
            for _ in range(count):
                made = api.post("/api/2.0/token/create", {}).json()
                with Connection(plane.url, made["token_value"]) as client:
                    request = client.prepare("POST", f"/serving-endpoints/{plane.names[0]}/invocations", BODY.encode())
                    assert client.send(request).status == 200
                    began = time.perf_counter()
                    answer = api.post("/api/2.0/token/delete", {"token_id": made["token_info"]["token_id"]})
                    took.append((time.perf_counter() - began) * 1000)
                    assert (answer.status, json.loads(answer.body)) == (200, {}), answer
                    used += client.send(request).status != 401
        rows.append([already, *(percentile(took, percent) for percent in (50, 90, 99)), used])
        what = f"revocation acknowledged by Envoy, {already:,} revoked before, p99"
        report.figures.append(Figure.at_most(what, percentile(took, 99), 1000, "ms"))
    report.figures.append(
        Figure.at_most("requests let through after that", sum(int(str(row[-1])) for row in rows), 0, "")
    )
    header = ("Revoked before", "p50", "p90", "p99", "requests let through afterwards")
    report.tables.append(Table(f"Revoking a token until Envoy has acknowledged it, {count} times, ms", header, rows))
