"""Stopping and upgrading: what was accepted is answered, and nothing is left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from benchmarks.client import Connection
from tests.e2e.test_faults import BODY, answers, envoys, load
from tests.e2e.wye import Wye, config, until
from tests.processes import alive


def slow(while_there: Path) -> dict[str, object]:
    """A request that takes as long as this file exists."""
    while_there.touch()
    return {"dataframe_records": [{"do": "wait while", "with": str(while_there)}]}


def test_a_control_plane_is_upgraded_in_place_and_sigterm_drains(start: Callable[..., Wye], tmp_path: Path) -> None:
    """SIGTERM of the control plane: its successor takes over, nothing is resent. SIGTERM of all: what was begun is answered."""
    wye = start()
    wye.create("ep", config({"a": 50, "b": 50}, a="linear/1", b="other/1"))
    wye.create("slow", config({"s": 100}, s="actor/1"))
    before = wye.replicas()
    under_load = load(wye, "ep")

    async def upgrade() -> None:
        async with under_load.running():
            await under_load.answers(100)
            pid = wye.pid("controlplane")
            os.kill(pid, signal.SIGTERM)
            await asyncio.to_thread(until, lambda: wye.pid("controlplane") not in {None, pid} and answers(wye), 60)
            await asyncio.to_thread(until, lambda: envoys(wye), 60)
            await under_load.answers(100)

    asyncio.run(upgrade())
    assert under_load.tally.failures == []
    assert wye.replicas() == before
    (envoy,) = envoys(wye)
    assert sum(each["resources_sent"] for each in envoy["types"]) == 0

    with ThreadPoolExecutor(7) as clients:
        under_way = tmp_path / "under-way"
        in_hand = clients.submit(wye.predict, "slow", "", slow(under_way))
        until(lambda: _active(wye) == 1)
        served = [threading.Event() for _ in range(6)]
        busy = [clients.submit(_until_told, wye, each) for each in served]
        for each in served:
            assert each.wait(60)
        wye.process.send_signal(signal.SIGTERM)
        try:
            assert all(told.result() > 0 for told in busy)
            assert wye.process.poll() is None  # it waits for the slow one
        finally:
            under_way.unlink()
        answer = in_hand.result()
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert wye.stop() == 0


def test_a_second_signal_stops_at_once(start: Callable[..., Wye], tmp_path: Path) -> None:
    """Who is told to wait for a request may choose not to."""
    wye = start()
    wye.create("slow", config({"s": 100}, s="actor/1"))
    with ThreadPoolExecutor(1) as one:
        in_hand = one.submit(wye.predict, "slow", "", slow(tmp_path / "under-way"))
        until(lambda: _active(wye) == 1)
        running = wye.processes()
        wye.process.send_signal(signal.SIGINT)
        until(lambda: not _listens(wye))
        wye.process.send_signal(signal.SIGINT)
        assert wye.process.wait(60) == 0
        assert in_hand.exception() is not None
        until(lambda: not any(map(alive, running)), 60, f"nothing is left of {running}")


def _until_told(wye: Wye, served: threading.Event) -> int:
    """One request after another on one connection, each answered, until an answer says that it is the last."""
    with Connection(wye.url, wye.token) as client:
        request = client.prepare("POST", "/serving-endpoints/ep/invocations", BODY)
        for count in itertools.count(1):
            answer = client.send(request)
            assert answer.status == 200, answer
            served.set()
            if answer.headers.get("connection") == "close":
                return count
    raise AssertionError


def _active(wye: Wye) -> int:
    """Predictions that are under way."""
    text = wye.client.get("/api/2.0/serving-endpoints/slow/metrics").text
    return sum(int(line.split()[-1]) for line in text.splitlines() if line.startswith("requests_in_flight{"))


def _listens(wye: Wye) -> bool:
    try:
        return wye.client.get("/.well-known/databricks-config").status_code == 200
    except httpx.HTTPError:
        return False
