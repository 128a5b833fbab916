"""The supervisor between updates: crashes, deletions, sleep, and all that goes wrong."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.clock import SystemClock
from controlplane.discovery.testing import FakeEnvoy
from controlplane.domain import (
    Deployment,
    Endpoint,
    Machine,
    Phase,
    RateLimit,
    ReplicaSpec,
    UpdateState,
    WorkloadSize,
)
from controlplane.domain.load import LoadReport
from controlplane.rollout import lifecycle, supervisor
from controlplane.rollout.scaler import Scaler
from controlplane.rollout.supervisor import AGAIN
from controlplane.store import StaleWriteError, StoreUnavailableError
from controlplane.translate.resource import TypeUrl
from tests.controlplane.rollout.builders import begin, empty, specs
from tests.controlplane.rollout.world import World, run


def test_a_crashed_replica_is_started_again_in_its_place() -> None:
    """The same replica id gets a new process; nothing else is started."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        it.update(m="1")
        await it.settled()
        ((replica_id, replica),) = it.fleet.snapshot().items()
        it.runtime.crash(replica_id)
        await it.until(lambda: (now := it.fleet.get(replica_id)) and now.phase is Phase.READY and now.attempt == 2)
        assert replica.attempt == 1
        assert len(it.fleet) == 1

    run(test)


def test_calls_that_a_lost_runtime_dropped_are_made_again() -> None:
    """An update that begins while the worker host is away is carried out when it is back."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        it.runtime.lose()
        it.update(m="1")
        await asyncio.sleep(0)
        assert it.runtime.started == []
        it.runtime.regain()
        assert (await it.settled()).update is UpdateState.NOT_UPDATING

    run(test)


def test_a_deleted_endpoint_is_cleaned_up_and_its_name_can_be_taken_at_once() -> None:
    """The old replicas are stopped, the new endpoint of that name keeps its routes."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        it.update(m="1")
        first = await it.settled()
        it.endpoints.delete(first)
        it.endpoints.insert(empty_again())
        it.update(m="1")
        second = await it.settled()
        assert second.id != first.id
        await it.until(lambda: {r.deployment.endpoint_id for r in it.fleet.snapshot().values()} == {second.id})
        await envoys[0].until(lambda: [n for n in envoys[0].versions(TypeUrl.CLUSTER) if first.id[:8] in n] == [])
        assert "endpoint/ep" in envoys[0].versions(TypeUrl.ROUTES)
        await it.until(lambda: it.supervisor.replicas_of(first.id) == ())

    run(test)


def test_an_endpoint_is_cleaned_up_when_nothing_else_happens() -> None:
    """A deletion sends Envoy nothing that it would acknowledge, and after a while there is no other reason to look."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        it.update(m="1")
        deployed = await it.settled()
        await it.until(
            lambda: (it.supervisor._alarms.next or 0) > SystemClock().monotonic() + 30, "no alarm is due soon"
        )
        it.endpoints.delete(deployed)
        await it.until(lambda: it.fleet.snapshot() == {}, "its replicas are stopped")

    run(test)


def test_limits_and_a_stop_are_said_to_be_kept_when_they_are() -> None:
    """Every Envoy has them when the wait ends; what changes nothing for Envoy is not waited for; alone, nobody keeps them."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        it.update(m="1")
        await it.settled()
        for limits in ((RateLimit(5),), (RateLimit(5), RateLimit(9)), ()):
            before = envoys[0].versions(TypeUrl.ROUTES)["endpoint/ep"]
            it.endpoints.save(lifecycle.amend(replace(it.get(), rate_limits=limits), 1))
            assert (await it.supervisor.wait_delivered(it.get(), 60)).done
            changed = [envoy.versions(TypeUrl.ROUTES)["endpoint/ep"] != before for envoy in envoys]
            assert changed == [len(limits) < 2] * 2
        it.endpoints.save(lifecycle.stop(it.get(), 2))
        assert (await it.supervisor.wait_delivered(it.get(), 60)).done

    async def alone(it: World, _: list[FakeEnvoy]) -> None:
        it.endpoints.save(lifecycle.amend(replace(it.get(), rate_limits=(RateLimit(5),)), 1))
        await it.until(
            lambda: (told := it.supervisor.published(it.get().id)) and told.view.limits == it.get().limits,
            "the limits are published",
        )
        assert (await it.supervisor.wait_delivered(it.get(), 0.1)).waiting == ("no Envoy is connected",)

    run(test, envoys=2)
    run(alone, envoys=0)


def test_an_alarm_that_outlives_its_endpoint_rings_for_nobody() -> None:
    """A deleted endpoint is forgotten while alarms of it are still set, and the supervisor goes on."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        it.update(m="1")
        it.endpoints.delete(await it.settled())
        await it.until(lambda: len(it.fleet.snapshot()) == 0, "its replicas are gone")
        rung = SystemClock().monotonic() + AGAIN + 0.2
        await it.until(lambda: SystemClock().monotonic() > rung, "every alarm has rung")
        it.endpoints.insert(empty_again())
        it.update(m="1")
        assert (await it.settled()).update is UpdateState.NOT_UPDATING

    run(test)


@pytest.mark.parametrize(
    ("writes", "reads"),
    [
        ([StoreUnavailableError("the disk is full")], []),
        ([StaleWriteError("ep")], []),
        ([StaleWriteError("ep")], [StoreUnavailableError("it is away")]),
        ([ZeroDivisionError("a bug")], []),
    ],
    ids=["a full disk", "another's write", "another's write, then no database", "a bug"],
)
def test_an_end_that_cannot_be_stored_is_stored_later(
    writes: list[Exception], reads: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes in the way at the end of an update delays its end, and loses nothing."""
    monkeypatch.setattr(supervisor, "AFTER_A_BUG", 0.01)

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        it.update(m="1")
        it.store.refusals, it.store.unreadable = list(writes), list(reads)
        endpoint = await it.settled()
        assert it.store.refusals == it.store.unreadable == []
        assert endpoint.update is UpdateState.NOT_UPDATING
        assert it.store.get("ep") == endpoint

    run(test)


def test_a_store_that_stays_away_is_asked_now_and_then() -> None:
    """Not as fast as it refuses: the log, and the disk that may be full, are spared."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        it.update(m="1")
        it.store.refusals = [StoreUnavailableError("the disk is full")] * 4
        began = SystemClock().monotonic()
        await it.settled()
        assert SystemClock().monotonic() - began > 2 * AGAIN  # an event may have been in between, to which it was due

    run(test)


@pytest.mark.parametrize(("where", "what"), [(supervisor, "route"), (supervisor, "plan"), (Scaler, "follow")])
def test_a_bug_that_shows_with_one_endpoint_leaves_the_others_alone(
    where: object, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are carried on with; it is tried again until the bug is gone, and told of once."""
    monkeypatch.setattr(supervisor, "AFTER_A_BUG", 0.01)
    right, shown = getattr(where, what), Counter[str]()

    def wrong(*arguments: object, **others: object) -> object:
        if shown.total() < 5 and any("bad" in (each, getattr(each, "name", "")) for each in arguments):
            shown["bug"] += 1
            raise ZeroDivisionError("a bug")
        return right(*arguments, **others)

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        monkeypatch.setattr(where, what, wrong)
        for name in ("bad", "good"):
            it.endpoints.insert(
                begin(replace(empty(), id=name, name=name), specs(m="1"), now_ms=SystemClock().now_ms())
            )
        assert (await it.settled("good")).update is UpdateState.NOT_UPDATING
        assert (await it.settled("bad")).update is UpdateState.NOT_UPDATING

    run(test)
    assert shown.total() == 5
    (told,) = [each for each in caplog.records if each.exc_info]
    assert told.getMessage().startswith("endpoint bad stays as it is")


def test_a_bug_at_the_start_withdraws_nothing_from_envoys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Better no control plane, and Envoys that serve what they have, than one that publishes all but one endpoint."""

    def wrong(*_arguments: object, **_others: object) -> object:
        raise ZeroDivisionError("a bug")

    async def test() -> None:
        folder = Path(tempfile.mkdtemp(prefix="ws"))
        it = World(folder)
        it.endpoints.insert(empty())
        monkeypatch.setattr(supervisor, "route", wrong)
        runtime = asyncio.create_task(it.runtime.run())
        try:
            with pytest.RaisesGroup(ZeroDivisionError):
                await it.supervisor.run()
        finally:
            runtime.cancel()
            it.store.close()
            shutil.rmtree(folder)
        assert it.hub.snapshot.generation == 0

    asyncio.run(test())


def test_an_idle_entity_sleeps_and_a_request_wakes_it() -> None:
    """It sleeps after the idle time, Envoy is told nothing of that, and woken it is awake until it is idle again."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        (entity,) = specs(m="1")
        it.endpoints.save(begin(it.get(), [replace(entity, scale_to_zero_enabled=True)], now_ms=SystemClock().now_ms()))
        await it.settled()
        ((replica_id, _),) = it.fleet.snapshot().items()

        def phase() -> Phase:
            replica = it.fleet.get(replica_id)
            assert replica
            return replica.phase

        received = len(envoys[0].received)
        await it.until(lambda: phase() is Phase.ASLEEP, "it sleeps")
        it.runtime.wake(replica_id)
        assert phase() is Phase.READY
        await it.until(lambda: [r.phase for r in it.supervisor.replicas_of(it.get().id)] == [Phase.READY])
        it.supervisor.load_reported("envoy-0", [])
        it.supervisor.load_reported("envoy-0", [LoadReport("envoy-0", cluster_name(it), 1.0, 1, 1, 0, 0)])
        it.supervisor.load_reported("envoy-0", [])
        await it.until(lambda: phase() is Phase.ASLEEP, "it sleeps again")
        assert len(envoys[0].received) == received

    run(test)


def cluster_name(it: World) -> str:
    """The one cluster of the endpoint."""
    (name,) = it.hub.snapshot.of(TypeUrl.CLUSTER).keys() - {"wye-api"}
    return name


def test_replicas_that_belong_to_nothing_are_stopped() -> None:
    """What an endpoint left behind that was deleted while the control plane was down is found and ended."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        orphan = ReplicaSpec("x-1-m-0", Deployment("x" * 32, "m", 1), "gone/m", "/models/1", "churn", "1")
        await it.runtime.start(orphan)
        await it.until(lambda: it.runtime.stopped == [orphan.id])

    run(test)


def empty_again() -> Endpoint:
    """Another endpoint of the same name."""
    return replace(empty(), id="f" * 32)


def test_an_entity_gets_no_more_replicas_than_its_machine_has_room_for() -> None:
    """It is deployed with those there are, and says why there are no more; with more room there are more."""

    async def scenario(it: World, _envoys: list[FakeEnvoy]) -> None:
        it.runtime.machine = Machine(processors=2, memory=1000 << 20, available=200 << 20)
        wanted = [replace(spec, workload_size=WorkloadSize.LARGE) for spec in specs(a="1")]
        it.endpoints.save(begin(it.get(), wanted, now_ms=SystemClock().now_ms()))
        endpoint = await it.settled()
        assert endpoint.update is UpdateState.NOT_UPDATING
        (replica,) = it.supervisor.replicas_of(endpoint.id)
        assert replica.note.startswith(
            "Capped at 1 of 4 replicas: the machine has no room for more; 200 MB of its memory"
        )
        it.runtime.machine = Machine(processors=2, memory=1000 << 20, available=900 << 20)
        it.endpoints.cell.set("ep", replace(endpoint, description="somebody looks at it"))
        await it.until(lambda: len(it.supervisor.replicas_of(endpoint.id)) == 4, "it grows")
        await it.until(lambda: not any(each.note for each in it.supervisor.replicas_of(endpoint.id)), "no word of it")

    run(scenario)


def test_entities_that_start_at_once_are_not_given_the_same_room() -> None:
    """What the first was granted is not there for the second, which gets the one replica that everybody gets."""

    async def scenario(it: World, _envoys: list[FakeEnvoy]) -> None:
        it.runtime.machine = Machine(processors=2, memory=1000 << 20, available=650 << 20)
        wanted = [replace(spec, workload_size=WorkloadSize.LARGE) for spec in specs(a="1", b="1")]
        it.endpoints.save(begin(it.get(), wanted, now_ms=SystemClock().now_ms()))
        endpoint = await it.settled()
        replicas = it.supervisor.replicas_of(endpoint.id)
        assert sorted(Counter(each.deployment.entity for each in replicas).values()) == [1, 4]

    run(scenario)


def test_a_sleeper_that_is_wanted_awake_is_woken() -> None:
    """When its entity may sleep no longer, and beside another that a request has woken: Envoy would never send it one."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        (entity,) = specs(m="1")
        medium = replace(entity, workload_size=WorkloadSize.MEDIUM, scale_to_zero_enabled=True)

        def phases() -> list[Phase]:
            return sorted(replica.phase for replica in it.fleet.snapshot().values())

        it.endpoints.save(begin(it.get(), [medium], now_ms=SystemClock().now_ms()))
        await it.settled()
        await it.until(lambda: phases() == [Phase.ASLEEP], "one sleeps, the other is gone")
        awake = replace(medium, scale_to_zero_enabled=False)
        it.endpoints.save(begin(it.get(), [awake], now_ms=SystemClock().now_ms()))
        await it.until(lambda: phases() == [Phase.READY, Phase.READY], "both are awake")

    run(test)
