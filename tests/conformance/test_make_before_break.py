"""Make before break: nothing is used before what it needs is there, or goes while it is used, over a real stream (reference/xds.md, sections 1.3, 1.4, 3)."""

from __future__ import annotations

from controlplane.discovery.messages import Variant
from tests.conformance.clients import BOTH, bundle, client, envoy, news
from tests.controlplane.discovery.rig import (
    CDS,
    EDS,
    LDS,
    RDS,
    SDS,
    SRDS,
    asynchronous,
    resource,
    summary,
    world,
)


@BOTH
@asynchronous
async def test_changed_cluster_is_followed_by_its_endpoints(variant: Variant) -> None:
    """A changed cluster warms anew and waits for endpoints, so they follow although they have not changed."""
    async with world(*bundle("e", "a")) as it:
        who = await it.connect(envoy(it, variant=variant))
        await news(it, who)
        targets = it.put(resource(CDS, "a", "2"))
        assert await news(it, who) == [("Cluster", "a"), ("ClusterLoadAssignment", "a")]
        assert it.hub.applied(targets).done


@asynchronous
async def test_changed_cluster_without_endpoints_is_told_so() -> None:
    """A changed cluster that has no endpoints is told that there are none, instead of waiting for a timeout."""
    async with world(resource(CDS, "a"), resource(LDS, "l")) as it:
        who = await it.connect(envoy(it))
        await news(it, who)
        targets = it.put(resource(CDS, "a", "2"))
        assert await news(it, who) == [("Cluster", "a"), ("ClusterLoadAssignment", "-a")]
        assert it.hub.applied(targets).done


@BOTH
@asynchronous
async def test_routes_wait_for_their_clusters(variant: Variant) -> None:
    """Routes are held back until their clusters are acknowledged, and it is said what they wait for."""
    async with world(*bundle("e", "a")) as it:
        who = await it.connect(envoy(it, variant=variant))
        await news(it, who)
        who.model.mute.add(CDS)
        targets = it.put(*bundle("e", "b"))
        got = await news(it, who)
        assert [each for each in got if each[0] == "RouteConfiguration"] == []
        verdict = it.hub.applied(targets)
        assert not verdict.done
        assert "envoy-1: routes e is held back until cluster b is in use" in verdict.waiting
        await who.answer()
        assert await news(it, who) == [("RouteConfiguration", "e")]
        assert it.hub.applied(targets).done


@BOTH
@asynchronous
async def test_one_stuck_endpoint_holds_up_no_other(variant: Variant) -> None:
    """While one endpoint waits for a cluster that is refused, another is updated as usual."""
    async with world(*bundle("one", "a"), *bundle("two", "b")) as it:
        who = await it.connect(envoy(it, variant=variant, refusal=lambda each: "no" if each.name == "bad" else ""))
        await it.quiesce()
        stuck = it.put(*bundle("one", "bad"))
        await it.quiesce()
        fine = it.put(*bundle("two", "c"), removed=[(CDS, "b"), (EDS, "b")])
        await it.quiesce()
        assert it.hub.applied(fine).done
        assert not it.hub.applied(stuck).done
        assert [each.name for each in it.hub.applied(stuck).rejections] == ["bad"]
        assert "a" in who.versions(CDS), "what the stuck endpoint uses stays"


@BOTH
@asynchronous
async def test_clusters_leave_after_the_routes(variant: Variant) -> None:
    """A cluster that went out of use is withdrawn when the routes without it are acknowledged, not before."""
    async with world(*bundle("e", "a")) as it:
        who = await it.connect(envoy(it, variant=variant))
        await news(it, who)
        who.model.mute.add(RDS)
        targets = it.put(*bundle("e", "b"), removed=[(CDS, "a"), (EDS, "a")])
        got = await news(it, who)
        assert got[-1] == ("RouteConfiguration", "e")
        assert "a" in who.versions(CDS)
        assert "envoy-1: cluster a is not withdrawn yet" in it.hub.applied(targets).waiting
        await who.answer()
        gone = ("Cluster", "-a") if variant is Variant.DELTA else ("Cluster", "b")
        assert gone in await news(it, who)
        assert it.hub.applied(targets).done


@asynchronous
async def test_deleted_endpoint_leaves_in_order() -> None:
    """Scope, then cluster; the routes and the endpoints the client gives up by itself."""
    async with world(*bundle("e", "a"), *bundle("stays", "b")) as it:
        who = await it.connect(envoy(it))
        await news(it, who)
        targets = it.put(removed=[(each.type_url, each.name) for each in bundle("e", "a")])
        assert await news(it, who) == [("ScopedRouteConfiguration", "-e"), ("Cluster", "-a")]
        assert it.hub.applied(targets).done


@asynchronous
async def test_weights_and_replicas_go_at_once() -> None:
    """A change of weights is one response for routes, a change of replicas one for endpoints, even while clusters warm."""
    async with world(*bundle("e", "a"), *bundle("f", "b")) as it:
        who = await it.connect(envoy(it))
        await news(it, who)
        who.model.mute.add(CDS)
        it.put(*bundle("f", "c"))
        await news(it, who)
        weights = it.put(resource(RDS, "e", "other weights", ["a"]))
        assert await news(it, who) == [("RouteConfiguration", "e")]
        replicas = it.put(resource(EDS, "a", "other replicas"))
        assert await news(it, who) == [("ClusterLoadAssignment", "a")]
        assert it.hub.applied(weights | replicas).done


@asynchronous
async def test_update_of_one_endpoint_sends_nothing_of_others() -> None:
    """Among many endpoints an update sends what changed and nothing else."""
    everything = [each for number in range(200) for each in bundle(f"e{number}", f"c{number}")]
    async with world(*everything) as it:
        who = await it.connect(envoy(it))
        await news(it, who)
        it.put(resource(RDS, "e7", "weights", ["c7"]))
        assert await news(it, who) == [("RouteConfiguration", "e7")]


@asynchronous
async def test_grpc_client_does_not_wait_for_clusters() -> None:
    """A client that asks for clusters by name, after it has seen the route, is not made to wait for them."""
    async with world(*bundle("e", "a")) as it:
        who = await it.connect(client(it))
        await who.subscribe(RDS, "e")
        await who.subscribe(CDS, "a")
        await it.quiesce()
        assert sorted(summary(who.received)) == [("Cluster", "a"), ("RouteConfiguration", "e")]


@asynchronous
async def test_secret_leaves_after_the_listener() -> None:
    """A secret is withdrawn when the listener without it is acknowledged."""
    async with world(resource(LDS, "l"), resource(SDS, "s")) as it:
        who = await it.connect(client(it))
        await who.subscribe(LDS)
        await who.subscribe(SDS, "s")
        await news(it, who)
        who.model.mute.add(LDS)
        it.put(resource(LDS, "l", "2"), removed=[(SDS, "s")])
        assert await news(it, who) == [("Listener", "l")]
        await who.answer()
        assert await news(it, who) == [("Secret", "-s")]


@asynchronous
async def test_replaced_scope_leaves_with_the_new_one() -> None:
    """A scope that takes another's place comes in the response that removes the other: the two must not collide."""
    async with world(*bundle("old", "a")) as it:
        who = await it.connect(envoy(it))
        await news(it, who)
        it.put(*bundle("new", "a"), removed=[(SRDS, "old"), (RDS, "old")])
        assert ("ScopedRouteConfiguration", "new", "-old") in await news(it, who)
