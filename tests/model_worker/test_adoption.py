"""Both sides of the protocol together: the control plane's process runtime on a real worker host."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from controlplane.domain import Address, Deployment, Phase, Replica, ReplicaSpec
from controlplane.runtimes import Fleet
from controlplane.runtimes.process import OutOfReachError, ProcessRuntime
from tests.model_worker.hosting import PATIENCE, RunningHost, predict
from tests.model_worker.saved_models import SavedModels

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}
DEPLOYMENT = Deployment("e1", "current", 7)


def spec(replica_id: str, artifact: object) -> ReplicaSpec:
    """A spec of one deployment."""
    return ReplicaSpec(
        replica_id, DEPLOYMENT, "multi-model/current", str(artifact), "model-A", "1", (("COLOR", "red"),)
    )


async def until(fleet: Fleet, replica_id: str, condition: Callable[[Replica | None], bool]) -> Replica | None:
    """The replica once it fulfils the condition."""
    subscription = fleet.subscribe()
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition(fleet.get(replica_id)):
                await subscription.wait()
                subscription.take()
    finally:
        subscription.close()
    return fleet.get(replica_id)


async def until_connected(runtime: ProcessRuntime, *, wanted: bool) -> None:
    """Return once the runtime is connected, or is not."""
    async with asyncio.timeout(PATIENCE):
        while runtime.connected is not wanted:  # noqa: ASYNC110 - the contract has no event for it
            await asyncio.sleep(0.005)


@asynccontextmanager
async def control_plane(host: RunningHost) -> AsyncIterator[tuple[ProcessRuntime, Fleet]]:
    """A runtime that has connected to the host."""
    fleet = Fleet()
    runtime = ProcessRuntime(Address(path=str(host.address)), fleet)
    running = asyncio.create_task(runtime.run())
    try:
        await until_connected(runtime, wanted=True)
        yield runtime, fleet
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def is_ready(replica: Replica | None) -> bool:
    """Whether it is there and READY."""
    return replica is not None and replica.phase is Phase.READY


def is_gone(replica: Replica | None) -> bool:
    """Whether it is not there any more."""
    return replica is None


def test_a_returning_control_plane_finds_its_replicas(host: RunningHost, models: SavedModels) -> None:
    """A second control plane adopts what the first has started: same deployment, same pid, same address, still serving."""

    async def scenario() -> None:
        async with control_plane(host) as (first, fleet):
            await first.start(spec("adopted", models("linear")))
            before = await until(fleet, "adopted", is_ready)
        async with control_plane(host) as (second, fleet):
            after = fleet.get("adopted")
            assert after == before
            assert after is not None
            assert after.deployment == DEPLOYMENT
            assert after.address is not None
            assert await asyncio.to_thread(predict, {"address": {"path": after.address.path}}, ROW)
            assert await second.logs("adopted", 10) == "--- multi-model/current (model-A 1), attempt 1"
            await second.stop("adopted", 5)
            await until(fleet, "adopted", is_gone)

    asyncio.run(scenario())


def test_two_control_planes_see_the_same(host: RunningHost, models: SavedModels) -> None:
    """What one connection starts and stops, another is told."""

    async def scenario() -> None:
        async with control_plane(host) as (one, _), control_plane(host) as (_, seen):
            await one.start(spec("shared", models("linear")))
            await until(seen, "shared", is_ready)
            await one.stop("shared", 5)
            await until(seen, "shared", is_gone)

    asyncio.run(scenario())


def test_a_crashed_replica_is_started_again_under_its_id(host: RunningHost, models: SavedModels) -> None:
    """FAILED, then asked for again: the same id and address, a new pid, a second attempt."""

    async def scenario() -> None:
        async with control_plane(host) as (runtime, fleet):
            await runtime.start(spec("c", models("linear")))
            before = await until(fleet, "c", is_ready)
            assert before is not None
            assert before.pid is not None
            os.kill(before.pid, signal.SIGKILL)
            failed = await until(fleet, "c", lambda replica: replica is not None and replica.phase is Phase.FAILED)
            assert failed is not None
            assert failed.holds_connections
            await runtime.start(spec("c", models("linear")))
            after = await until(fleet, "c", is_ready)
            assert after is not None
            assert (after.address, after.attempt) == (before.address, 2)
            assert after.pid != before.pid
            await runtime.stop("c", 5)
            await until(fleet, "c", is_gone)

    asyncio.run(scenario())


def test_a_new_host_is_believed(models: SavedModels) -> None:
    """When the host dies the fleet stays as last seen and calls are dropped; then it is what the host's successor says.

    A living replica is the same as before; of one that has ended the socket listens again, and it can be started there.
    """
    first = RunningHost()
    hosts = [first]

    async def scenario() -> None:
        async with control_plane(first) as (runtime, fleet):
            for each in ("lives", "dies"):
                await runtime.start(spec(each, models("linear")))
            lives, dies = [await until(fleet, each, is_ready) for each in ("lives", "dies")]
            assert lives is not None
            assert dies is not None
            assert dies.pid is not None
            assert dies.address is not None
            first.process.kill()
            first.process.wait()
            await until_connected(runtime, wanted=False)
            await runtime.start(spec("dropped", models("linear")))
            with pytest.raises(OutOfReachError):
                await runtime.logs("lives", 1)
            assert fleet.snapshot() == {"lives": lives, "dies": dies}
            os.kill(dies.pid, signal.SIGKILL)
            hosts.append(await asyncio.to_thread(RunningHost, directory=first.directory))
            failed = await until(fleet, "dies", lambda replica: replica is not None and replica.phase is Phase.FAILED)
            assert failed is not None
            assert (failed.address, failed.holds_connections) == (dies.address, True)
            assert fleet.snapshot() == {"lives": lives, "dies": failed}
            waiting = asyncio.create_task(asyncio.to_thread(predict, {"address": {"path": dies.address.path}}, ROW))
            await runtime.start(spec("dies", models("linear")))
            assert await waiting
            again = await until(fleet, "dies", is_ready)
            assert again is not None
            assert again.attempt == 2

    try:
        asyncio.run(scenario())
    finally:
        hosts[-1].end()
