"""Two control planes on one PostgreSQL: it does not matter which is asked, and one that dies or hangs is replaced by the other."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.planes import Planes
from tests.e2e.test_faults import load
from tests.e2e.wye import config, until
from tests.postgresql import PostgreSQL

PATH = "/api/2.0/serving-endpoints"


@pytest.fixture(scope="module")
def planes(registry: str, short_dir: Path, postgresql: PostgreSQL) -> Iterator[Planes]:
    """Two control planes, of which the tests of this module end one after the other."""
    running = Planes(short_dir / "ha", postgresql.new_database(), registry)
    running.create("ep", config({"a": 50, "b": 50}, a="linear/1", b="other/1"))
    yield running
    running.stop()


def other(name: str) -> str:
    """The other of the two."""
    return "b" if name == "a" else "a"


def split(planes: Planes, through: str, a: int) -> None:
    """Change the weights by asking one of them; done when it says so, as everywhere."""
    changed = config({"a": a, "b": 100 - a}, a="linear/1", b="other/1")
    answer = planes.api(through, "PUT", f"{PATH}/ep/config", changed)
    assert answer.status_code == 200, answer.text
    until(lambda: planes.api(through, "GET", f"{PATH}/ep").json()["state"]["config_update"] == "NOT_UPDATING", 60)


def test_it_does_not_matter_which_is_asked(planes: Planes) -> None:
    """A change through either is what Envoy does when it is said to be done; both tell the same of everything.

    A third one that has keys of its own is refused.
    """
    planes.start("stranger", WYE_KEYS_DIR=str(planes.folder / "others-keys"))
    for through, share, value in (("a", 100, 21.0), ("b", 0, 210.0), ("a", 100, 21.0)):
        split(planes, through, share)
        assert planes.value("ep") == value
    assert planes.api("a", "GET", f"{PATH}/ep").json() == planes.api("b", "GET", f"{PATH}/ep").json()
    refused = [planes.api(name, "POST", PATH, {"name": "?"}) for name in "ab"]
    assert refused[0].status_code == refused[1].status_code == 400
    assert refused[0].json()["message"] == refused[1].json()["message"]
    (envoy,) = [each for each in planes.api("b", "GET", "/api/2.0/wye/status").json()["envoys"] if each["connected"]]
    assert envoy["node_id"] == "wye-up"
    assert planes.programs.pop("stranger").wait(60) == 1
    assert "has other keys" in planes.log("stranger")


def test_the_death_of_the_one_that_acts_is_not_noticed(
    planes: Planes, record_property: Callable[[str, object], None]
) -> None:
    """Kill -9 under load: the other acts within 5 s, no request fails, no replica is touched, nothing is resent."""
    before, acting = planes.replicas(), planes.acting()
    under_load = load(planes, "ep")
    took = 0.0

    async def run() -> None:
        nonlocal took
        async with under_load.running():
            await under_load.answers(100)
            planes.send(acting, signal.SIGKILL)
            began = time.monotonic()
            await asyncio.to_thread(until, lambda: planes.acting() == other(acting), 60)
            took = time.monotonic() - began
            await asyncio.to_thread(split, planes, other(acting), 50)
            await under_load.answers(100)

    asyncio.run(run())
    record_property("seconds until the duty had moved", took)
    assert under_load.tally.failures == []
    assert planes.replicas() == before
    assert took < 30  # 3.3 s when the machine has nothing else to do
    planes.programs[acting].wait()
    planes.start(acting)
    planes.stands_by(acting)


def test_one_that_was_paused_does_nothing_more(planes: Planes) -> None:
    """SIGSTOP: the other takes over. SIGCONT: what the first then wants is refused, and it ends, to stand by anew."""
    acting = planes.acting()
    epoch = planes.client.get("/api/2.0/wye/status").json()["epoch"]
    planes.send(acting, signal.SIGSTOP)
    until(lambda: planes.api(other(acting), "GET", "/api/2.0/wye/status").json().get("epoch", 0) > epoch, 60)
    split(planes, other(acting), 0)
    under_load = load(planes, "ep")

    async def run() -> None:
        async with under_load.running():
            planes.send(acting, signal.SIGCONT)
            assert await asyncio.to_thread(planes.programs[acting].wait, 60) == 1
            await under_load.answers(100)

    asyncio.run(run())
    assert under_load.tally.failures == []
    assert "taken over" in planes.log(acting)
    assert planes.value("ep") == 210.0
    planes.start(acting)
    planes.stands_by(acting)


def test_a_handover_is_quick_when_the_one_that_acts_is_told_to_stop(planes: Planes) -> None:
    """SIGTERM under load, as for an upgrade: calls of the API go through as if nothing were."""
    acting = until(planes.acting, 60)
    under_load = load(planes, "ep")

    async def run() -> None:
        async with under_load.running():
            planes.send(acting, signal.SIGTERM)
            await asyncio.to_thread(until, lambda: planes.acting() == other(acting), 60)
            await under_load.answers(100)

    asyncio.run(run())
    assert under_load.tally.failures == []
    assert planes.programs[acting].wait(60) == 0
    split(planes, other(acting), 100)
    assert planes.value("ep") == 21.0
