"""Does an update lose a request? Weight changes and version swaps under a steady load whose client never retries.

Each update is sent as soon as the one before is done. A swap replaces the model version behind half of the traffic: a
replica is started, traffic moves over, the old replica is drained and stopped. Every answer that is not 200, every broken
connection and every wait of over 60 s counts as failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from benchmarks.context import Context
from benchmarks.models import BODY, LINEAR_VERSIONS, registered
from benchmarks.report import Figure, Report, Table, percentile
from tests.e2e.load import Load
from tests.e2e.wye import Wye, config

ENDPOINT = "busy"
CONNECTIONS = 16


def run(context: Context) -> Report:
    weights, swaps = (200, 10) if context.quick else (1000, 50)
    registry = registered(context.folder)
    wye = Wye(context.folder / "s", registry=registry)
    try:
        wye.create(ENDPOINT, config({"a": 50, "b": 50}, a="linear/1", b="other/1"))
        return asyncio.run(_measure(wye, weights, swaps, context))
    finally:
        wye.stop()


async def _measure(wye: Wye, weights: int, swaps: int, context: Context) -> Report:
    load = Load(wye.url, f"/serving-endpoints/{ENDPOINT}/invocations", wye.token, BODY.encode(), CONNECTIONS)

    def new_weights(number: int) -> None:
        share = 1 + number % 99
        _update(wye, config({"a": share, "b": 100 - share}, a="linear/1", b="other/1"))

    def new_version(number: int) -> None:
        version = f"linear/{1 + (number + 1) % LINEAR_VERSIONS}"
        _update(wye, config({"a": 50, "b": 50}, a=version, b="other/1"))

    rows: list[list[object]] = []
    failed: dict[str, int] = {}
    async with load.running():
        await load.answers(200)
        for what, count, change in (("weight changes", weights, new_weights), ("version swaps", swaps, new_version)):
            answered, failures, began = load.tally.answered, len(load.tally.failures), time.monotonic()
            took = await asyncio.to_thread(_repeat, change, count)
            seconds = time.monotonic() - began
            failed[what] = len(load.tally.failures) - failures
            rate = (load.tally.answered - answered) / seconds
            rows.append(
                [
                    what,
                    count,
                    percentile(took, 50),
                    percentile(took, 99),
                    load.tally.answered - answered,
                    rate,
                    failed[what],
                ]
            )
            context.say(f"{count} {what}: {failed[what]} failed")
        await load.answers(200)  # what the last change may have broken shows
    failed["in all"] = len(load.tally.failures)
    report = Report("lossless", "")
    report.figures = [
        Figure.at_most(f"failed requests, {weights} weight changes and {swaps} version swaps", failed["in all"], 0, ""),
        Figure("answered requests", load.tally.answered, ""),
    ]
    report.tables = [
        Table(
            f"Load from {CONNECTIONS} connections, each update as soon as the last is done",
            ("Update", "Times", "PUT to done p50, s", "p99, s", "Requests answered meanwhile", "per second", "failed"),
            rows,
        )
    ]
    report.notes = [f"failure: {failure}" for failure in load.tally.failures[:10]]
    report.data = {"failures": load.tally.failures[:1000]}
    return report


def _update(wye: Wye, document: dict[str, object]) -> None:
    endpoint = wye.update(ENDPOINT, document)
    assert endpoint["state"]["config_update"] == "NOT_UPDATING", endpoint


def _repeat(change: Callable[[int], None], count: int) -> list[float]:
    took = []
    for number in range(count):
        began = time.monotonic()
        change(number)
        took.append(time.monotonic() - began)
    return took
