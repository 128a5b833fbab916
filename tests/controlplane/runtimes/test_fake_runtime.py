"""The fake runtime keeps the runtime contract and does what it is told."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from controlplane.domain import Address, Deployment, Phase, ReplicaSpec
from controlplane.runtimes import Fleet, Runtime
from controlplane.runtimes.fake import FakeRuntime


def spec(replica_id: str = "r1", artifact: str = "models:/a/1") -> ReplicaSpec:
    """A spec of the current generation."""
    return ReplicaSpec(replica_id, Deployment("e1", "current", 1), "multi-model/current", artifact, "a", "1")


def run(action: Coroutine[Any, Any, Any]) -> None:
    """Run one call to its end."""
    asyncio.run(action)


def phase(fleet: Fleet, replica_id: str = "r1") -> Phase | None:
    """The phase the fleet shows."""
    replica = fleet.get(replica_id)
    return replica.phase if replica else None


def test_a_started_replica_is_ready_at_once() -> None:
    """A replica is READY, with an address, as soon as it is started; starting it again changes nothing."""
    fleet = Fleet()
    runtime: Runtime = FakeRuntime(fleet, address=lambda s: Address(path=f"/tmp/{s.id}"))
    run(runtime.start(spec()))
    run(runtime.start(spec()))
    replica = fleet.get("r1")
    assert replica is not None
    assert (replica.phase, replica.address, replica.attempt) == (Phase.READY, Address(path="/tmp/r1"), 1)
    assert fleet.changes == 1


def test_a_held_start_waits_for_its_release() -> None:
    """A replica of a held artifact stays STARTING until released; others do not wait for it."""
    fleet = Fleet()
    runtime = FakeRuntime(fleet)
    runtime.hold_starts("models:/a/1")
    run(runtime.start(spec()))
    run(runtime.start(spec("r2", "models:/b/1")))
    assert (phase(fleet), phase(fleet, "r2")) == (Phase.STARTING, Phase.READY)
    runtime.release_starts()
    assert phase(fleet) is Phase.READY


def test_a_failing_artifact_can_be_started_again_once_it_is_mended() -> None:
    """A refused start is FAILED with the given words; the same id started again counts a second attempt."""
    fleet = Fleet()
    runtime = FakeRuntime(fleet)
    runtime.fail("models:/a/1", "ModuleNotFoundError: No module named 'foo'")
    run(runtime.start(spec()))
    failed = fleet.get("r1")
    assert failed is not None
    assert (failed.phase, failed.permanent) == (Phase.FAILED, True)
    assert failed.message == "ModuleNotFoundError: No module named 'foo'"
    runtime.mend("models:/a/1")
    run(runtime.start(spec()))
    again = fleet.get("r1")
    assert again is not None
    assert (again.phase, again.attempt) == (Phase.READY, 2)


def test_a_crashed_replica_comes_back_with_a_new_pid() -> None:
    """A crash is FAILED and not permanent; the next start gives the same id a new pid."""
    fleet = Fleet()
    runtime = FakeRuntime(fleet)
    run(runtime.start(spec()))
    before = fleet.get("r1")
    runtime.crash("r1")
    crashed = fleet.get("r1")
    run(runtime.start(spec()))
    after = fleet.get("r1")
    assert before is not None
    assert crashed is not None
    assert after is not None
    assert (crashed.phase, crashed.permanent) == (Phase.FAILED, False)
    assert after.pid != before.pid


def test_a_held_stop_is_seen_stopping() -> None:
    """While stops are held a stopped replica is STOPPING; released, it leaves the fleet."""
    fleet = Fleet()
    runtime = FakeRuntime(fleet)
    run(runtime.start(spec()))
    runtime.hold_stops()
    run(runtime.stop("r1", 5))
    assert phase(fleet) is Phase.STOPPING
    runtime.release_stops()
    assert phase(fleet) is None
    assert runtime.stopped == ["r1"]


def test_out_of_reach_calls_are_dropped_and_news_comes_later() -> None:
    """While lost, starts are dropped and crashes unseen; regained, the fleet shows what is so."""
    fleet = Fleet()
    runtime = FakeRuntime(fleet)
    run(runtime.start(spec()))
    runtime.lose()
    run(runtime.start(spec("r2")))
    runtime.crash("r1")
    assert not runtime.connected
    assert (phase(fleet), phase(fleet, "r2")) == (Phase.READY, None)
    runtime.regain()
    assert (phase(fleet), phase(fleet, "r2")) == (Phase.FAILED, None)
