"""The supervisor at work: a real store, hub and xDS stream, a fake runtime and a fake Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.clock import SystemClock
from controlplane.discovery.hub import Hub
from controlplane.discovery.server import serve
from controlplane.discovery.testing import FakeEnvoy
from controlplane.domain import (
    Address,
    Deployment,
    Endpoint,
    Machine,
    Phase,
    RateLimit,
    Replica,
    ReplicaSpec,
    UpdateState,
    WorkloadSize,
)
from controlplane.domain.load import LoadReport
from controlplane.rollout import lifecycle
from controlplane.rollout.autoscale import ScaleOptions
from controlplane.rollout.state import Options
from controlplane.rollout.supervisor import AGAIN, Supervisor
from controlplane.runtimes.fake import FakeRuntime
from controlplane.store import Endpoints, Store, StoreUnavailableError
from controlplane.translate.gateway import Gateway
from controlplane.translate.resource import TypeUrl
from controlplane.watch import WatchedMap
from tests.controlplane.rollout.builders import begin, empty, specs, split

GATEWAY = Gateway(public=Address(host="127.0.0.1", port=8080), api=(Address(path="/run/api.sock"),))


class ForgetfulStore(Store):
    """A store that refuses as many writes as it is told to."""

    refusals = 0

    def save(self, endpoint: Endpoint) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailableError("the disk is full")
        super().save(endpoint)


class World:
    """Everything around one supervisor."""

    def __init__(self, folder: Path) -> None:
        self.store = ForgetfulStore(f"sqlite:///{folder}/wye.db")
        self.endpoints = Endpoints(self.store, WatchedMap[str, Endpoint]())
        self.fleet = WatchedMap[str, Replica]()
        self.runtime = FakeRuntime(self.fleet, address=lambda spec: Address(path=f"/run/{spec.id}"))
        self.hub = Hub(SystemClock())
        self.address = Address(path=str(folder / "xds"))
        self.supervisor = Supervisor(
            endpoints=self.endpoints,
            fleet=self.fleet,
            hub=self.hub,
            runtime=self.runtime,
            gateway=GATEWAY,
            clock=SystemClock(),
            options=Options(drain=0.02, grace=1.0, deploy_timeout=60.0),
            scaling=ScaleOptions(down_after=0.2, to_zero_after=0.2),
        )

    def get(self, name: str = "ep") -> Endpoint:
        endpoint = self.endpoints.get(name)
        assert endpoint is not None
        return endpoint

    def update(self, traffic: dict[str, int] | None = None, **versions: str) -> None:
        """What the API does on PUT …/config."""
        shares = split(**traffic) if traffic else None
        self.endpoints.save(begin(self.get(), specs(**versions), shares, now_ms=SystemClock().now_ms()))

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Return when the condition holds; fails after ten seconds."""
        try:
            async with asyncio.timeout(10):
                while not condition():  # noqa: ASYNC110 - conditions of many kinds have no common event
                    await asyncio.sleep(0.002)
        except TimeoutError:
            pytest.fail(f"did not come to be: {what or condition}")

    async def settled(self, name: str = "ep") -> Endpoint:
        """The endpoint once its update has ended."""
        await self.until(lambda: self.get(name).update is not UpdateState.IN_PROGRESS, "the update ends")
        return self.get(name)


@contextlib.asynccontextmanager
async def world(*, envoys: int = 1) -> AsyncIterator[tuple[World, list[FakeEnvoy]]]:
    """A running supervisor with an endpoint `ep` that has no config yet, and fake Envoys connected to its hub."""
    folder = Path(tempfile.mkdtemp(prefix="ws"))
    it = World(folder)
    it.endpoints.insert(empty())
    tasks = [asyncio.create_task(it.runtime.run()), asyncio.create_task(it.supervisor.run())]
    await it.supervisor.wait_published()
    server = await serve(it.hub, it.address)
    connected = [FakeEnvoy(it.address, f"envoy-{number}", follows=True) for number in range(envoys)]
    for envoy in connected:
        await envoy.connect()
    try:
        yield it, connected
    finally:
        for envoy in connected:
            await envoy.disconnect()
        await server.stop(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        it.store.close()
        shutil.rmtree(folder)


def run(test: Callable[[World, list[FakeEnvoy]], object], *, envoys: int = 1) -> None:
    """Run a test's coroutine inside a world."""

    async def inside() -> None:
        async with world(envoys=envoys) as (it, connected):
            await test(it, connected)  # type: ignore[misc]

    asyncio.run(inside())


def test_an_update_ends_when_every_envoy_has_acknowledged_it() -> None:
    """Replicas are started, routes reach both Envoys, and only then the config is active, in the store too."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        it.update(m="1")
        endpoint = await it.settled()
        assert (endpoint.update, endpoint.active and endpoint.active.version) == (UpdateState.NOT_UPDATING, 1)
        assert it.store.get("ep") == endpoint
        for envoy in envoys:
            assert "endpoint/ep" in envoy.versions(TypeUrl.ROUTES)

    run(test, envoys=2)


def test_without_an_envoy_an_update_stays_in_progress() -> None:
    """Nothing is reported as serving while nobody serves; it ends as soon as an Envoy has it."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        it.update(m="1")
        await it.until(lambda: it.runtime.started)
        await it.until(lambda: it.hub.snapshot.of(TypeUrl.CLUSTER).keys() - {"wye-api"}, "the cluster is published")
        assert it.get().update is UpdateState.IN_PROGRESS
        async with FakeEnvoy(it.address, "late", follows=True):
            assert (await it.settled()).update is UpdateState.NOT_UPDATING

    run(test, envoys=0)


def test_one_envoy_that_keeps_silent_holds_the_update_up() -> None:
    """An update waits for every connected Envoy, and the replaced replicas are kept for the one that lags."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        it.update(m="1")
        await it.settled()
        silent = envoys[1]
        silent.model.mute = frozenset({TypeUrl.ROUTES})
        it.update(m="2")
        await envoys[0].until(
            lambda: (
                it.hub.snapshot.of(TypeUrl.ROUTES)["endpoint/ep"].version in envoys[0].versions(TypeUrl.ROUTES).values()
            )
        )
        assert it.get().update is UpdateState.IN_PROGRESS
        assert it.runtime.stopped == []
        silent.model.mute = frozenset()
        await silent.answer(TypeUrl.ROUTES)
        assert (await it.settled()).update is UpdateState.NOT_UPDATING
        await it.until(lambda: len(it.runtime.stopped) == 1, "the replaced replica is stopped")

    run(test, envoys=2)


def test_what_a_swap_replaces_is_stopped_after_the_switch() -> None:
    """The old replica is stopped, its cluster is gone from Envoy, and the entity that did not change is left alone."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        it.update({"a": 50, "b": 50}, a="1", b="1")
        await it.settled()
        it.update({"a": 50, "b": 50}, a="2", b="1")
        await it.settled()
        await it.until(lambda: it.runtime.stopped, "the old replica is stopped")
        assert [replica.split("-", 1)[1] for replica in it.runtime.stopped] == ["1-a-0"]
        await envoys[0].until(lambda: not any("/a@1." in name for name in envoys[0].versions(TypeUrl.CLUSTER)))
        assert any("/b@1." in name for name in envoys[0].versions(TypeUrl.CLUSTER))

    run(test)


def test_a_change_of_weights_sends_envoy_one_resource() -> None:
    """Only the RouteConfiguration of that endpoint is sent, and no replica is started or stopped."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        it.update({"a": 90, "b": 10}, a="1", b="1")
        await it.settled()
        received, started = len(envoys[0].received), len(it.runtime.started)
        it.update({"a": 10, "b": 90}, a="1", b="1")
        await it.settled()
        assert [(each.type_url, *each.names) for each in envoys[0].received[received:]] == [
            (TypeUrl.ROUTES, "endpoint/ep")
        ]
        assert (len(it.runtime.started), it.runtime.stopped) == (started, [])

    run(test)


def test_a_model_that_does_not_load_leaves_what_serves_alone() -> None:
    """The update fails with the model's words, its replicas are cleaned up, Envoy hears nothing of it."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        it.update(m="1")
        await it.settled()
        routes = envoys[0].versions(TypeUrl.ROUTES)
        it.runtime.fail("/models/2", "ValueError: no")
        it.update(m="2", other="1")
        endpoint = await it.settled()
        assert endpoint.update is UpdateState.UPDATE_FAILED
        assert {outcome.served_entity: outcome.message for outcome in endpoint.outcomes}["m"] == "ValueError: no"
        await it.until(lambda: len(it.fleet) == 1, "what the update started is gone")
        assert envoys[0].versions(TypeUrl.ROUTES) == routes
        it.update(m="3")
        assert (await it.settled()).update is UpdateState.NOT_UPDATING

    run(test)


def test_a_configuration_that_envoy_refuses_fails_the_update() -> None:
    """A NACK ends the update with Envoy's words, and the old routes are what is published again."""

    async def test(it: World, envoys: list[FakeEnvoy]) -> None:
        it.update(m="1")
        await it.settled()
        routes = envoys[0].versions(TypeUrl.ROUTES)
        envoys[0].model.refusal = lambda received: "route: no" if received.type_url == TypeUrl.ROUTES else None
        it.update(m="2")
        endpoint = await it.settled()
        assert endpoint.update is UpdateState.UPDATE_FAILED
        assert "route: no" in endpoint.outcomes[0].message
        published = it.hub.snapshot.of(TypeUrl.ROUTES)["endpoint/ep"].version
        await it.until(
            lambda: it.hub.snapshot.of(TypeUrl.ROUTES)["endpoint/ep"].version == routes["endpoint/ep"], published
        )

    run(test)


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
        await it.until(lambda: it.supervisor._alarms[0][0] > SystemClock().monotonic() + 30, "no alarm is due soon")
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
            assert (await it.supervisor.wait_delivered(it.get(), 10)).done
            changed = [envoy.versions(TypeUrl.ROUTES)["endpoint/ep"] != before for envoy in envoys]
            assert changed == [len(limits) < 2] * 2
        it.endpoints.save(lifecycle.stop(it.get(), 2))
        assert (await it.supervisor.wait_delivered(it.get(), 10)).done

    async def alone(it: World, _: list[FakeEnvoy]) -> None:
        it.endpoints.save(lifecycle.amend(replace(it.get(), rate_limits=(RateLimit(5),)), 1))
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


def test_an_end_that_cannot_be_stored_is_stored_later() -> None:
    """A full disk at the end of an update delays its end, and loses nothing."""

    async def test(it: World, _: list[FakeEnvoy]) -> None:
        it.update(m="1")
        it.store.refusals = 1
        endpoint = await it.settled()
        assert it.store.refusals == 0
        assert endpoint.update is UpdateState.NOT_UPDATING
        assert it.store.get("ep") == endpoint

    run(test)


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
        await it.until(lambda: len(it.supervisor.replicas_of(it.get().id)) == 1)
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
