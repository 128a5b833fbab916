"""The supervisor carries updates out: when they end, what they leave alone, what they stop."""

from __future__ import annotations

from controlplane.discovery.testing import FakeEnvoy
from controlplane.domain import (
    UpdateState,
)
from controlplane.translate.resource import TypeUrl
from tests.controlplane.rollout.world import World, run


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
        before = envoys[0].versions(TypeUrl.ROUTES)["endpoint/ep"]
        it.update(m="2")
        await envoys[0].until(lambda: envoys[0].versions(TypeUrl.ROUTES)["endpoint/ep"] != before)
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
