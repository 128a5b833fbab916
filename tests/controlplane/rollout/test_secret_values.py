"""Replicas get the values of their secrets when they are read, and nobody else waits for that."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import cast

from controlplane.clock import SystemClock
from controlplane.discovery.testing import FakeEnvoy
from controlplane.domain import Deployment, Phase, Replica, ReplicaSpec
from controlplane.rollout.secret_values import WithSecrets
from controlplane.runtimes import Fleet
from controlplane.runtimes.fake import FakeRuntime
from controlplane.store import Secrets, StoreUnavailableError
from tests.controlplane.rollout.builders import begin, empty, specs
from tests.controlplane.rollout.world import World, run

SPEC = ReplicaSpec("r1", Deployment("e", "m", 1), "ep/m", "/m", "a", "1", (("A", "{{secrets/s/k}}"), ("B", "2")))


class Values:
    """Secrets that are read when the test lets them be."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.asked = 0
        self.found: bytes | Exception | None = b"x"

    def value(self, _scope: str, _key: str) -> bytes | None:
        """One of them."""
        self.asked += 1
        assert self.may.wait(60)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def with_secrets(values: Values) -> tuple[WithSecrets, FakeRuntime, Fleet]:
    """A runtime, what is below it, and the fleet."""
    fleet = Fleet()
    below = FakeRuntime(fleet)
    return WithSecrets(below, cast("Secrets", values), fleet), below, fleet


async def until(condition: object) -> None:
    """Return once the condition holds; fails after a minute."""
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - it may be about anything
            await asyncio.sleep(0.001)


def test_a_replica_is_started_with_values_once_they_are_read() -> None:
    """However often it is asked for meanwhile; one that is stopped before is not started."""

    async def test() -> None:
        values = Values()
        runtime, below, _ = with_secrets(values)
        running = asyncio.create_task(below.run())
        await below.wait_connected()
        for spec in (SPEC, SPEC, replace(SPEC, id="r2")):
            await runtime.start(spec)
        await until(lambda: values.asked)
        await runtime.stop("r2", 1.0)
        assert below.started == []
        values.may.set()
        await until(lambda: below.started)
        await runtime.start(replace(SPEC, id="r3", environment_vars=()))
        assert [each.id for each in below.started] == ["r1", "r3"]
        assert below.started[0].environment_vars == (("A", "x"), ("B", "2"))
        running.cancel()

    asyncio.run(test())


def test_a_secret_that_cannot_be_read_is_read_again_and_one_that_is_gone_is_told() -> None:
    """The first is asked for again by whoever wants the replica; the second makes it FAILED until it is stopped."""

    async def test() -> None:
        values = Values()
        values.may.set()
        runtime, below, fleet = with_secrets(values)
        running = asyncio.create_task(below.run())
        await below.wait_connected()
        values.found = StoreUnavailableError("it is away")
        await runtime.start(SPEC)
        await until(lambda: values.asked)
        values.found = None

        def failed() -> Replica | None:
            return fleet.get("r1")

        while not failed():
            await runtime.start(SPEC)
            await asyncio.sleep(0)
        replica = failed()
        assert replica
        assert (replica.phase, replica.permanent) == (Phase.FAILED, True)
        assert "no secret {{secrets/s/k}} any more" in replica.message
        await runtime.stop("r1", 1.0)
        assert failed() is None
        assert below.started == []
        running.cancel()

    asyncio.run(test())


def test_a_replica_that_sleeps_wakes_with_the_secret_as_it_is_now() -> None:
    """Whoever puts another value need not wake it; a value that was being read at that moment is read once more."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        values = Values()
        values.may.set()
        it.supervisor._runtime = WithSecrets(it.runtime, cast("Secrets", values), it.fleet)
        needy = [
            replace(each, environment_vars=(("A", "{{secrets/s/k}}"),), scale_to_zero_enabled=True)
            for each in specs(m="1")
        ]
        it.endpoints.save(begin(it.get(), needy, now_ms=SystemClock().now_ms()))
        await it.settled()
        ((replica_id, _replica),) = it.fleet.snapshot().items()
        values.found = b"while it was awake"
        await it.until(lambda: (now := it.fleet.get(replica_id)) and now.phase is Phase.ASLEEP)
        await it.until(lambda: it.runtime.started[-1].environment_vars == (("A", "while it was awake"),))
        for value in (b"second", b"third"):
            values.found = value
            await it.supervisor.secret_changed(("s", "k"))
        await it.supervisor.secret_changed(("s", "another"))
        await it.until(lambda: it.runtime.started[-1].environment_vars == (("A", "third"),))
        await it.until(lambda: (now := it.fleet.get(replica_id)) and now.phase is Phase.ASLEEP)
        values.found = None
        await it.supervisor.secret_changed(("s", "k"))
        await it.until(lambda: (now := it.fleet.get(replica_id)) and now.phase is Phase.FAILED, "it has no secret")
        values.found = b"put again"
        await it.until(lambda: (now := it.fleet.get(replica_id)) and now.phase is Phase.ASLEEP, "it can be woken again")
        assert it.runtime.started[-1].environment_vars == (("A", "put again"),)

    run(test)


def test_slow_secrets_of_one_endpoint_hold_up_no_other() -> None:
    """While a database hangs, a replica of another endpoint that crashed is started again."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        values = Values()
        it.supervisor._runtime = WithSecrets(it.runtime, cast("Secrets", values), it.fleet)
        it.update(m="1")
        await it.settled()
        ((replica_id, _replica),) = it.fleet.snapshot().items()
        needy = [replace(each, environment_vars=(("A", "{{secrets/s/k}}"),)) for each in specs(m="1")]
        other = replace(empty(), id="f" * 32, name="other")
        it.endpoints.insert(begin(other, needy, now_ms=SystemClock().now_ms()))
        await it.until(lambda: values.asked)
        it.runtime.crash(replica_id)
        await it.until(lambda: (now := it.fleet.get(replica_id)) and now.phase is Phase.READY and now.attempt == 2)
        values.may.set()
        await it.settled("other")

    run(test)
