"""Publishing, and what "applied" means: who counts, who waits for what, who is lost."""

from __future__ import annotations

import asyncio

from controlplane.discovery.messages import DeltaRequest, Node, Variant
from controlplane.discovery.testing import PATIENCE
from controlplane.translate.resource import TypeUrl
from controlplane.translate.snapshot import Snapshot
from tests.controlplane.discovery.rig import (
    CDS,
    EDS,
    LDS,
    RDS,
    SDS,
    SRDS,
    FakeEnvoy,
    World,
    asynchronous,
    resource,
    summary,
    world,
)

BUNDLE = (
    resource(CDS, "a"),
    resource(EDS, "a"),
    resource(LDS, "l"),
    resource(RDS, "r", "", ["a"]),
    resource(SRDS, "s", "", ["a"], routes="r"),
)


async def connected(it: World, node_id: str = "envoy-1", **more: object) -> FakeEnvoy:
    """An Envoy that has all there is."""
    envoy = await it.connect(FakeEnvoy(it.address, node_id, follows=True, **more))  # type: ignore[arg-type]
    await it.quiesce()
    return envoy


@asynchronous
async def test_nobody_is_connected() -> None:
    """With no Envoy connected nothing is applied, whoever else is."""
    async with world(*BUNDLE) as it:
        targets = it.put(resource(EDS, "a", "2"))
        assert it.hub.applied(targets).waiting == ("no Envoy is connected",)
        assert it.hub.applied(targets, include_lost=True).waiting == ("no Envoy is connected",)
        await it.connect(FakeEnvoy(it.address, "client", agent="test"))
        await it.quiesce()
        assert it.hub.applied(targets).waiting == ("no Envoy is connected",)
        assert it.hub.applied({}).waiting == ("no Envoy is connected",)


@asynchronous
async def test_envoys_of_a_former_control_plane_are_waited_for() -> None:
    """Until they are back they count as lost, as if they had been ours; another's presence does not speak for them."""
    async with world(*BUNDLE) as it:
        await connected(it)
        it.hub.expect({"envoy-1", "envoy-2"})
        assert it.hub.present == {"envoy-1", "envoy-2"}
        assert it.hub.applied({}).done
        assert it.hub.applied({}, include_lost=True).waiting == ("envoy-2: has not come back yet",)
        await connected(it, "envoy-2")
        assert it.hub.applied({}, include_lost=True).done
        it.hub.expect({"envoy-3"})
        it.hub.forget("envoy-3")
        assert it.hub.applied({}, include_lost=True).done


@asynchronous
async def test_who_waits_for_what() -> None:
    """A verdict names each Envoy and each thing it has not acknowledged, and why."""
    async with world(*BUNDLE) as it:
        envoy = await connected(it)
        envoy.model.mute |= {CDS, EDS}
        targets = it.put(
            resource(EDS, "a", "2"),
            resource(CDS, "b"),
            resource(RDS, "r", "2", ["b"]),
            resource(RDS, "unused"),
            resource(SDS, "secret"),
        )
        await it.quiesce()
        assert it.hub.applied(targets).waiting == (
            "envoy-1: has not acknowledged endpoints a",
            "envoy-1: has not acknowledged cluster b",
            "envoy-1: routes r is held back until cluster b is in use",
            "envoy-1: has not asked for routes unused",
            "envoy-1: has not asked for secret secret",
        )
        await envoy.answer()
        await it.quiesce()
        del targets[RDS, "unused"], targets[SDS, "secret"]
        assert it.hub.applied(targets).done


@asynchronous
async def test_other_clients_count_for_what_they_asked() -> None:
    """A client that is no Envoy counts for what it has subscribed to and for nothing else."""
    async with world(*BUNDLE) as it:
        await connected(it)
        client = await it.connect(FakeEnvoy(it.address, "client", agent="test"))
        client.model.mute.add(EDS)
        await client.subscribe(EDS, "a")
        await it.quiesce()
        assert it.hub.applied(it.put(resource(RDS, "r", "2", ["a"]), resource(CDS, "b"))).done is False
        await it.quiesce()
        assert it.hub.applied({(CDS, "b"): resource(CDS, "b").version}).done
        waiting = it.hub.applied({(EDS, "a"): resource(EDS, "a").version}).waiting
        assert waiting == ("client: has not acknowledged endpoints a",)


@asynchronous
async def test_acked_but_overtaken_is_not_applied() -> None:
    """An old version that was acknowledged does not count as applied once a newer one is on its way."""
    async with world(*BUNDLE) as it:
        envoy = await connected(it)
        old = {(EDS, "a"): resource(EDS, "a").version}
        assert it.hub.applied(old).done
        envoy.model.mute.add(EDS)
        it.put(resource(EDS, "a", "2"))
        await it.quiesce()
        assert not it.hub.applied(old).done


@asynchronous
async def test_separate_streams_count_for_their_type() -> None:
    """A stream for one type says nothing about the others, and is not waited for because of them."""
    async with world(*BUNDLE) as it:
        envoy = await it.connect(FakeEnvoy(it.address, "envoy-1", only_type=CDS))
        await envoy.subscribe(CDS)
        await it.quiesce()
        assert it.hub.applied({(CDS, "a"): BUNDLE[0].version, (LDS, "l"): BUNDLE[2].version}).done


@asynchronous
async def test_waiting_ends_when_it_is_applied() -> None:
    """`wait_applied` returns as soon as the last Envoy has acknowledged."""
    async with world(*BUNDLE) as it:
        envoys = [await connected(it, "envoy-1"), await connected(it, "envoy-2")]
        for envoy in envoys:
            envoy.model.mute.add(EDS)
        targets = it.put(resource(EDS, "a", "2"))
        waiting = asyncio.create_task(it.hub.wait_applied(targets, PATIENCE))
        await it.quiesce()
        await envoys[0].answer()
        await it.quiesce()
        assert not waiting.done()
        await envoys[1].answer()
        assert (await waiting).done


@asynchronous
async def test_waiting_ends_when_it_is_refused() -> None:
    """`wait_applied` returns at once when a target is refused, with the Envoy's words."""
    async with world(*BUNDLE) as it:
        bad = resource(RDS, "r", "bad", ["a"])
        await connected(it, refusal=lambda each: "no such filter" if each.version == bad.version else "")
        verdict = await it.hub.wait_applied(it.put(bad), PATIENCE)
        assert not verdict.done
        assert verdict.waiting == ("envoy-1: has rejected routes r",)
        (rejection,) = verdict.rejections
        assert (rejection.name, rejection.version) == ("r", bad.version)
        assert rejection.message == "Error adding/updating: r: no such filter"
        # It concerns this version only.
        assert it.hub.applied({(RDS, "r"): BUNDLE[3].version}).rejections == ()


@asynchronous
async def test_waiting_ends_at_the_timeout() -> None:
    """`wait_applied` tells how things stand when time is up."""
    async with world(*BUNDLE) as it:
        verdict = await it.hub.wait_applied({(CDS, "a"): BUNDLE[0].version}, 0)
        assert verdict.waiting == ("no Envoy is connected",)


@asynchronous
async def test_removed_means_that_the_removal_is_acknowledged() -> None:
    """A target of None is done when the Envoy has acknowledged that the resource is gone."""
    async with world(*BUNDLE) as it:
        envoy = await connected(it)
        it.put(resource(CDS, "b"), resource(EDS, "b"))
        await it.quiesce()
        envoy.model.mute.add(CDS)
        targets = it.put(removed=[(CDS, "b"), (EDS, "b")])
        await it.quiesce()
        assert it.hub.applied(targets).waiting == ("envoy-1: has not acknowledged the removal of cluster b",)
        await envoy.answer()
        await it.quiesce()
        assert it.hub.applied(targets).done


@asynchronous
async def test_lost_envoy_counts_until_its_lease_is_over() -> None:
    """An Envoy whose connection broke may still send requests by what it had; it counts where that matters."""
    async with world(*BUNDLE) as it:
        await connected(it, "stays")
        lost = await connected(it, "lost")
        await lost.disconnect()
        await it.quiesce()
        targets = it.put(resource(EDS, "a", "2"))
        await it.quiesce()
        assert it.hub.applied(targets).done
        assert it.hub.applied(targets, include_lost=True).waiting == (
            "lost (connection lost): has not been sent endpoints a",
        )
        assert [(each.node_id, each.connected) for each in it.hub.envoys()] == [("stays", True), ("lost", False)]
        it.clock.advance(299)
        assert not it.hub.applied(targets, include_lost=True).done
        it.clock.advance(2)
        assert it.hub.applied(targets, include_lost=True).done
        assert [each.node_id for each in it.hub.envoys()] == ["stays"]


@asynchronous
async def test_lost_envoy_that_had_it_already_is_not_waited_for() -> None:
    """What an Envoy had acknowledged before it was lost, it has."""
    async with world(*BUNDLE) as it:
        await connected(it, "stays")
        lost = await connected(it, "lost")
        await lost.disconnect()
        await it.quiesce()
        assert it.hub.applied({(EDS, "a"): BUNDLE[1].version}, include_lost=True).done


@asynchronous
async def test_lost_envoy_comes_back() -> None:
    """An Envoy that is back counts as itself again, and is waited for by everyone."""
    async with world(*BUNDLE) as it:
        await connected(it, "stays")
        lost = await connected(it, "lost")
        await lost.disconnect()
        targets = it.put(resource(EDS, "a", "2"))
        await it.quiesce()
        await lost.connect()
        await it.quiesce()
        assert it.hub.applied(targets, include_lost=True).done
        assert [each.connected for each in it.hub.envoys()] == [True, True]


@asynchronous
async def test_dead_process_is_forgotten() -> None:
    """Nothing waits for a process that is known to be dead, whether the news or the end of its stream comes first."""
    async with world(*BUNDLE) as it:
        await connected(it, "stays")
        first, second = await connected(it, "first"), await connected(it, "second")
        await first.disconnect()
        await it.quiesce()
        it.hub.forget("first")
        second.model.mute.add(EDS)
        targets = it.put(resource(EDS, "a", "2"))
        await it.quiesce()
        it.hub.forget("second")
        assert it.hub.applied(targets, include_lost=True).done
        await second.disconnect()
        await it.quiesce()
        assert it.hub.applied(targets, include_lost=True).done
        assert [each.node_id for each in it.hub.envoys()] == ["stays"]


@asynchronous
async def test_hot_restart_loses_nobody() -> None:
    """When one of two processes with the same node id ends, the other speaks for the node."""
    async with world(*BUNDLE) as it:
        await connected(it, "envoy-1")
        old = await connected(it, "envoy-1")
        await old.disconnect()
        await it.quiesce()
        assert [(each.node_id, each.connected) for each in it.hub.envoys()] == [("envoy-1", True)]


@asynchronous
async def test_changes_are_told_and_coalesce() -> None:
    """Connects, answers and disconnects are told by node id; many of them are one piece of news."""
    async with world(*BUNDLE) as it:
        news = it.hub.subscribe()
        envoy = await connected(it)
        await news.wait()
        assert news.take() == {"envoy-1"}
        before = it.hub.changes
        for content in "123":
            it.put(resource(EDS, "a", content))
            await it.quiesce()
        assert it.hub.changes > before
        assert news.take() == {"envoy-1"}
        await envoy.disconnect()
        await it.quiesce()
        assert news.take() == {"envoy-1"}
        news.close()


@asynchronous
async def test_status_of_an_envoy() -> None:
    """The status says who it is, what it has acknowledged, what is on its way, what is held back, and what it refused."""
    async with world(*BUNDLE) as it:
        envoy = await connected(it, refusal=lambda each: "no" if each.name == "bad" else "")
        envoy.model.mute.add(EDS)
        it.put(resource(CDS, "bad"), resource(RDS, "r", "2", ["bad"]), resource(EDS, "a", "2"))
        await it.quiesce()
        (status,) = it.hub.envoys()
        assert (status.node_id, status.cluster, status.agent, status.version) == (
            "envoy-1",
            "gateway",
            "envoy",
            "1.40.0",
        )
        assert status.connected
        types = {each.type_url: each for each in status.types}
        assert types[CDS].acked == 1
        assert (types[EDS].acked, types[EDS].in_flight, types[EDS].generation) == (1, 1, 1)
        assert (types[RDS].held, types[RDS].responses_sent, types[RDS].resources_sent) == (1, 1, 1)
        assert status.last_rejection is not None
        assert (status.last_rejection.name, status.last_rejection.type_url) == ("bad", CDS)


@asynchronous
async def test_publishing_something_unrelated() -> None:
    """A snapshot that is not the successor of the last one is compared as a whole."""
    async with world(*BUNDLE, resource(CDS, "b")) as it:
        client = await it.connect(FakeEnvoy(it.address, "client", agent="test"))
        await client.subscribe(CDS)
        await it.quiesce()
        it.hub.publish(Snapshot(77, {TypeUrl.CLUSTER: {"a": BUNDLE[0], "c": resource(CDS, "c")}}))
        await it.quiesce()
        assert summary(client.received[1:]) == [("Cluster", "c"), ("Cluster", "-b")]
        assert client.received[-1].version == "77"


def test_nonces_tell_streams_and_lives_apart() -> None:
    """Nonces are unique per stream and say which life of the control plane they are from."""
    from controlplane.clock import FakeClock
    from controlplane.discovery.hub import Hub

    hubs = [Hub(FakeClock()), Hub(FakeClock())]
    nonces = []
    for hub in hubs:
        for _ in range(2):
            session = hub.open(Variant.DELTA, None, lambda: None)
            session.receive(DeltaRequest(CDS, node=Node("n")))
            response = session.next_response()
            assert response is not None
            assert response.nonce.startswith(hub.epoch)
            nonces.append(response.nonce)
    assert len(set(nonces)) == 4
