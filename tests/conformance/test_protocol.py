"""The rules that the xDS harness does not ask about, each over a real stream (reference/xds.md, sections 1.3, 1.4, 3)."""

from __future__ import annotations

import grpc
import pytest

from controlplane.discovery.messages import DeltaRequest, Node, SotwRequest, Variant
from controlplane.discovery.testing import PATIENCE
from controlplane.translate.resource import Resource
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

BOTH = pytest.mark.parametrize("variant", list(Variant))


def client(it: World, node_id: str = "client", variant: Variant = Variant.DELTA, **more: object) -> FakeEnvoy:
    """A client that asks for what the test says and nothing else."""
    return FakeEnvoy(it.address, node_id, variant=variant, agent="test", **more)  # type: ignore[arg-type]


def envoy(it: World, node_id: str = "envoy-1", variant: Variant = Variant.DELTA, **more: object) -> FakeEnvoy:
    """A client that follows what it is sent, as Envoy does."""
    return FakeEnvoy(it.address, node_id, variant=variant, follows=True, **more)  # type: ignore[arg-type]


def bundle(endpoint: str, *clusters: str, content: str = "") -> list[Resource]:
    """The resources of one endpoint that splits its requests over these clusters."""
    out = []
    for cluster in clusters:
        out += [resource(CDS, cluster), resource(EDS, cluster)]
    out.append(resource(RDS, endpoint, content + " ".join(clusters), clusters))
    out.append(resource(SRDS, endpoint, "", clusters, routes=endpoint))
    return out


async def news(it: World, who: FakeEnvoy) -> list[tuple[str, ...]]:
    """What came since the last call, once nothing is under way."""
    await it.quiesce()
    fresh = who.received[:]
    who.received.clear()
    return summary(fresh)


# Subscriptions, state of the world.


@asynchronous
async def test_legacy_wildcard_ends_with_the_first_name() -> None:
    """No names mean everything until a name was said; from then on they mean nothing."""
    async with world(resource(CDS, "a"), resource(CDS, "b")) as it:
        who = await it.connect(client(it, variant=Variant.SOTW))
        await who.subscribe(CDS)
        assert await news(it, who) == [("Cluster", "a", "b")]
        await who.subscribe(CDS, "a")
        await it.quiesce()
        await who.subscribe(CDS)
        await news(it, who)
        it.put(resource(CDS, "a", "2"))
        assert await news(it, who) == []


@asynchronous
async def test_sotw_explicit_wildcard_and_a_name() -> None:
    """A star keeps everything coming, whatever names come and go beside it."""
    async with world(resource(CDS, "a"), resource(CDS, "b")) as it:
        who = await it.connect(client(it, variant=Variant.SOTW))
        await who.subscribe(CDS, "*", "c")
        assert await news(it, who) == [("Cluster", "a", "b")]
        await who.subscribe(CDS, "*")
        it.put(resource(CDS, "d"))
        assert await news(it, who) == [("Cluster", "a", "b", "d")]


@asynchronous
async def test_sotw_stale_nonce_is_ignored() -> None:
    """A request that answers an earlier response does not change the subscription: a newer one will follow."""
    async with world(resource(EDS, "a"), resource(EDS, "b")) as it:
        who = await it.connect(client(it, variant=Variant.SOTW))
        await who.subscribe(EDS, "a")
        await it.quiesce()
        nonce = who.received[-1].nonce
        it.put(resource(EDS, "a", "2"))
        await news(it, who)
        await who.send(SotwRequest(EDS, ["a", "b"], nonce))
        assert await news(it, who) == []


@asynchronous
async def test_sotw_named_again_is_sent_again() -> None:
    """Giving a name up forgets it, so asking for it again brings it even if it has not changed."""
    async with world(resource(EDS, "a"), resource(EDS, "b")) as it:
        who = await it.connect(client(it, variant=Variant.SOTW))
        for names in (("a", "b"), ("b",), ("a", "b")):
            await who.subscribe(EDS, *names)
            got = await news(it, who)
        assert got == [("ClusterLoadAssignment", "a")]


@asynchronous
async def test_sotw_complete_types_delete_by_absence() -> None:
    """A removed cluster is told by a response without it, the last one by an empty response."""
    async with world(resource(CDS, "a"), resource(CDS, "b")) as it:
        who = await it.connect(client(it, variant=Variant.SOTW))
        await who.subscribe(CDS)
        await news(it, who)
        it.put(removed=[(CDS, "a")])
        assert await news(it, who) == [("Cluster", "b")]
        it.put(removed=[(CDS, "b")])
        assert await news(it, who) == [("Cluster",)]


# Subscriptions, delta.


@asynchronous
async def test_name_beside_the_wildcard_given_up() -> None:
    """Giving up a name that the wildcard covers brings it again; one that does not exist is told to be gone."""
    async with world(resource(CDS, "a"), resource(CDS, "b")) as it:
        who = await it.connect(client(it))
        await who.subscribe(CDS, "*", "a", "x")
        assert await news(it, who) == [("Cluster", "a", "b", "-x")]
        await who.subscribe(CDS, unsubscribe=["a"])
        assert await news(it, who) == [("Cluster", "a")]
        await who.subscribe(CDS, unsubscribe=["x"])
        assert await news(it, who) == [("Cluster", "-x")]


@asynchronous
async def test_wildcard_given_up() -> None:
    """Without the star only the names that were asked for go on."""
    async with world(resource(CDS, "a"), resource(CDS, "b")) as it:
        who = await it.connect(client(it))
        await who.subscribe(CDS, "*", "a")
        await who.subscribe(CDS, unsubscribe=["*"])
        await news(it, who)
        it.put(resource(CDS, "a", "2"), resource(CDS, "b", "2"))
        assert await news(it, who) == [("Cluster", "a")]


@asynchronous
async def test_name_added_to_the_legacy_wildcard() -> None:
    """Asking for a name after having asked for everything keeps everything."""
    async with world(resource(CDS, "a"), resource(CDS, "b")) as it:
        who = await it.connect(client(it))
        await who.subscribe(CDS)
        await who.subscribe(CDS, "a")
        await news(it, who)
        it.put(resource(CDS, "b", "2"))
        assert await news(it, who) == [("Cluster", "b")]


@asynchronous
async def test_resubscribing_brings_what_is_current() -> None:
    """Asking again for a name brings it although the client has that version: it may have dropped it."""
    async with world(resource(RDS, "a")) as it:
        who = await it.connect(client(it))
        await who.subscribe(RDS, "a")
        assert await news(it, who) == [("RouteConfiguration", "a")]
        await who.subscribe(RDS, "a")
        assert await news(it, who) == [("RouteConfiguration", "a")]


@asynchronous
async def test_missing_is_told_once_and_sent_when_created() -> None:
    """What does not exist is said so once, stays subscribed, and comes when it exists."""
    async with world(resource(EDS, "other")) as it:
        who = await it.connect(client(it))
        await who.subscribe(EDS, "a")
        assert await news(it, who) == [("ClusterLoadAssignment", "-a")]
        it.put(resource(EDS, "other", "2"))
        assert await news(it, who) == []
        it.put(resource(EDS, "a"))
        assert await news(it, who) == [("ClusterLoadAssignment", "a")]


@asynchronous
async def test_initial_versions() -> None:
    """On a new stream only what differs comes: changed ones, new ones, and word of those that are gone."""
    same, changed, new = resource(LDS, "same"), resource(LDS, "changed", "2"), resource(LDS, "new")
    async with world(same, changed, new) as it:
        who = await it.connect(client(it))
        has = {"same": same.version, "changed": "another", "gone": "any"}
        await who.send(DeltaRequest(LDS, initial=has, node=who.model.node))
        assert await news(it, who) == [("Listener", "changed", "new", "-gone")]


@asynchronous
async def test_empty_wildcard_is_answered() -> None:
    """Whoever asks for everything gets an answer even if there is nothing, because its start waits for one."""
    async with world() as it:
        who = await it.connect(client(it))
        await who.subscribe(CDS)
        assert await news(it, who) == [("Cluster",)]


# Acknowledgements.


@asynchronous
async def test_delta_stale_nonce_does_not_stop_a_subscription() -> None:
    """In the delta variant a nonce pairs an answer with a response and nothing else."""
    async with world(resource(EDS, "a"), resource(EDS, "b")) as it:
        who = await it.connect(client(it))
        await who.subscribe(EDS, "a")
        await news(it, who)
        await who.send(DeltaRequest(EDS, subscribe=["b"], nonce="long-forgotten"))
        assert await news(it, who) == [("ClusterLoadAssignment", "b")]


@BOTH
@asynchronous
async def test_refused_is_not_sent_again_until_it_changes(variant: Variant) -> None:
    """A refused version stays where it is; other changes go on, and its next version is sent."""
    async with world(resource(RDS, "a"), resource(RDS, "b")) as it:
        bad = resource(RDS, "a", "bad")
        who = client(it, variant=variant, refusal=lambda each: "no" if each.version == bad.version else "")
        await it.connect(who)
        await who.subscribe(RDS, "a", "b")
        await news(it, who)
        it.put(bad)
        assert await news(it, who) == [("RouteConfiguration", "a")]
        it.put(resource(RDS, "b", "2"))
        assert await news(it, who) == [("RouteConfiguration", "b")]
        assert [(each.name, each.version, each.message) for each in it.hub.rejections] == [
            ("a", bad.version, "Error adding/updating: a: no")
        ]
        it.put(resource(RDS, "a", "good"))
        assert await news(it, who) == [("RouteConfiguration", "a")]
        assert it.hub.rejections == ()


@asynchronous
async def test_refused_version_is_not_sent_again_later() -> None:
    """Going back to a version that was refused does not send it again, and still tells that it is refused."""
    async with world() as it:
        bad = resource(RDS, "a", "bad")
        who = client(it, refusal=lambda each: "no" if each.version == bad.version else "")
        await it.connect(who)
        await who.subscribe(RDS, "a")
        for content in ("bad", "good"):
            it.put(resource(RDS, "a", content))
            await news(it, who)
        it.put(bad)
        assert await news(it, who) == []
        assert [each.version for each in it.hub.rejections] == [bad.version]


@asynchronous
async def test_refusal_of_several_is_cleared_up_one_by_one() -> None:
    """Of a refused response, those that are not blamed are sent once more, each alone, so that their state is known."""
    async with world() as it:
        who = client(it, refusal=lambda each: "is no good" if each.name == "b" else "")
        await it.connect(who)
        await who.subscribe(CDS)
        await news(it, who)
        targets = it.put(resource(CDS, "a"), resource(CDS, "b"), resource(CDS, "c"))
        assert await news(it, who) == [("Cluster", "a", "b", "c"), ("Cluster", "a"), ("Cluster", "c")]
        assert [each.name for each in it.hub.rejections] == ["b"]
        subscription = it.hub.sessions[0].subscription(CDS)
        assert subscription is not None
        assert subscription.acked == {"a": targets[CDS, "a"], "c": targets[CDS, "c"]}


@asynchronous
async def test_refusal_that_blames_nobody_is_cleared_up() -> None:
    """When the words name no resource, each is tried alone; what is refused alone is to blame."""
    async with world() as it:
        who = client(it, refusal=lambda each: "broken" if each.name == "b" else "")
        await it.connect(who)
        await who.subscribe(CDS)
        await it.quiesce()
        who.model.mute.add(CDS)
        it.put(resource(CDS, "a"), resource(CDS, "b"))
        await who.until(lambda: len(who.received) == 2)
        await who.send(DeltaRequest(CDS, nonce=who.received[-1].nonce, error="protobuf is broken"))
        await who.until(lambda: len(who.received) == 4)
        await who.answer()
        await it.quiesce()
        assert summary(who.received)[2:] == [("Cluster", "a"), ("Cluster", "b")]
        assert [each.name for each in it.hub.rejections] == ["b"]


@asynchronous
async def test_sotw_refusal_is_cleared_up_without_the_blamed() -> None:
    """In the state of the world the next response leaves out the blamed, which tells how the others are."""
    async with world(resource(CDS, "a")) as it:
        who = client(it, variant=Variant.SOTW, refusal=lambda each: "no" if each.name == "b" else "")
        await it.connect(who)
        await who.subscribe(CDS)
        await news(it, who)
        it.put(resource(CDS, "b"), resource(CDS, "c"))
        assert await news(it, who) == [("Cluster", "a", "b", "c"), ("Cluster", "a", "c")]


@asynchronous
async def test_sotw_refused_keeps_what_was_accepted() -> None:
    """In the state of the world a refused change goes on being told as what it was before, or it would be deleted."""
    async with world(resource(CDS, "a"), resource(CDS, "b")) as it:
        bad = resource(CDS, "a", "bad")
        who = client(it, variant=Variant.SOTW, refusal=lambda each: "no" if each.version == bad.version else "")
        await it.connect(who)
        await who.subscribe(CDS)
        await it.quiesce()
        before = who.versions(CDS)["a"]
        it.put(bad)
        it.put(resource(CDS, "b", "2"))
        await it.quiesce()
        assert {each.version for each in who.received[-1].resources if each.name == "a"} == {before}
        assert who.versions(CDS)["a"] == before


@asynchronous
async def test_refusal_with_a_subscription() -> None:
    """A request may refuse a response and ask for more; both parts count."""
    async with world(resource(EDS, "a"), resource(EDS, "b")) as it:
        who = await it.connect(client(it))
        who.model.mute.add(EDS)
        await who.subscribe(EDS, "a")
        await who.until(lambda: len(who.received) == 1)
        await who.send(DeltaRequest(EDS, subscribe=["b"], nonce=who.received[0].nonce, error="no"))
        await who.until(lambda: len(who.received) == 2)
        assert summary(who.received) == [("ClusterLoadAssignment", "a"), ("ClusterLoadAssignment", "b")]
        assert [each.name for each in it.hub.rejections] == ["a"]


@asynchronous
async def test_ack_of_the_older_of_two() -> None:
    """Two responses in flight are acknowledged each by itself: the first ACK says nothing about the second."""
    async with world(resource(EDS, "a", "1")) as it:
        who = await it.connect(client(it))
        who.model.mute.add(EDS)
        await who.subscribe(EDS, "a")
        await who.until(lambda: len(who.received) == 1)
        targets = it.put(resource(EDS, "a", "2"))
        await who.until(lambda: len(who.received) == 2)
        first, second = (each.nonce for each in who.received)
        subscription = it.hub.sessions[0].subscription(EDS)
        assert subscription is not None
        await who.send(DeltaRequest(EDS, nonce=first))
        await it.quiesce()
        assert subscription.acked == {"a": resource(EDS, "a", "1").version}
        await who.send(DeltaRequest(EDS, nonce=second))
        await it.quiesce()
        assert subscription.acked == {"a": targets[EDS, "a"]}


@BOTH
@asynchronous
async def test_flow_is_bounded_for_a_client_that_never_answers(variant: Variant) -> None:
    """A client that reads but does not acknowledge gets a bounded number of responses, and the latest state after it does."""
    async with world(resource(EDS, "a")) as it:
        who = await it.connect(client(it, variant=variant))
        who.model.mute.add(EDS)
        await who.subscribe(EDS, "a")
        for count in range(100):
            it.put(resource(EDS, "a", str(count)))
            await it.quiesce()
        assert len(who.received) == 32
        await who.answer()
        await it.quiesce()
        assert who.versions(EDS) == {"a": resource(EDS, "a", "99").version}


# Streams.


@asynchronous
async def test_node_is_said_once() -> None:
    """The first request says who is there, later ones need not."""
    async with world(resource(CDS, "a")) as it:
        who = await it.connect(client(it, "gw-7"))
        await who.subscribe(CDS)
        await who.subscribe(LDS)
        await it.quiesce()
        assert [(each.node_id, each.cluster, len(each.types)) for each in it.hub.envoys()] == [("gw-7", "gateway", 2)]


@pytest.mark.parametrize(
    "request_",
    [
        DeltaRequest(CDS),
        DeltaRequest(CDS, node=Node("")),
        DeltaRequest("", node=Node("nameless-type")),
        SotwRequest("", node=Node("nameless-type")),
    ],
    ids=["no node", "no node id", "no type", "no type, state of the world"],
)
@asynchronous
async def test_invalid_first_request(request_: DeltaRequest | SotwRequest) -> None:
    """A first request without a node's id, or an aggregated one without a type, ends the stream with INVALID_ARGUMENT."""
    async with world() as it:
        variant = Variant.DELTA if isinstance(request_, DeltaRequest) else Variant.SOTW
        who = await it.connect(client(it, variant=variant))
        await who.send(request_)
        await who.until(lambda: who.ended is not None)
        assert who.ended is grpc.StatusCode.INVALID_ARGUMENT
        assert it.hub.sessions == ()


@asynchronous
async def test_separate_service_knows_its_type() -> None:
    """A service for one type needs no type in the request, and refuses another type."""
    async with world(resource(RDS, "a")) as it:
        who = await it.connect(client(it, only_type=RDS))
        await who.send(DeltaRequest("", subscribe=["a"], node=who.model.node))
        await who.until(lambda: len(who.received) == 1)
        assert summary(who.received) == [("RouteConfiguration", "a")]
        await who.send(DeltaRequest(CDS))
        await who.until(lambda: who.ended is not None)
        assert who.ended is grpc.StatusCode.INVALID_ARGUMENT


@asynchronous
async def test_two_streams_of_one_node() -> None:
    """Two streams may have one node id (a hot restart has two processes); each has its own state."""
    async with world(resource(CDS, "a")) as it:
        one, two = await it.connect(client(it)), await it.connect(client(it))
        await one.subscribe(CDS)
        await two.subscribe(CDS, "a", "x")
        await it.quiesce()
        assert summary(one.received) == [("Cluster", "a")]
        assert summary(two.received) == [("Cluster", "a", "-x")]
        assert [each.node_id for each in it.hub.envoys()] == ["client", "client"]


@BOTH
@asynchronous
async def test_bursts_coalesce(variant: Variant) -> None:
    """A thousand publications while the stream is busy become few responses, the last of them current."""
    async with world(resource(EDS, "a")) as it:
        who = await it.connect(client(it, variant=variant))
        await who.subscribe(EDS, "a")
        await it.quiesce()
        for count in range(1000):
            it.put(resource(EDS, "a", str(count)))
        await it.quiesce()
        assert len(who.received) <= 3
        assert who.versions(EDS) == {"a": resource(EDS, "a", "999").version}


@asynchronous
async def test_ten_thousand_at_once() -> None:
    """Ten thousand resources arrive in one response."""
    many = [resource(CDS, f"c{number}") for number in range(10_000)]
    async with world(*many) as it:
        who = await it.connect(client(it))
        await who.subscribe(CDS)
        await who.until(lambda: len(who.received) == 1)
        assert len(who.received[0].resources) == 10_000
        await it.quiesce()
        it.put(resource(CDS, "c77", "2"))
        await it.quiesce()
        assert summary(who.received[1:]) == [("Cluster", "c77")]


@asynchronous
async def test_stream_broken_while_it_is_written_to() -> None:
    """A client that goes away in the middle of a large response leaves nothing behind, and others go on."""
    many = [resource(CDS, f"c{number}", "x" * 1000) for number in range(5_000)]
    async with world(*many) as it:
        gone = client(it, "gone")
        await gone.connect()
        await gone.subscribe(CDS)
        await gone.disconnect()
        stays = await it.connect(client(it, "stays"))
        await stays.subscribe(CDS, "c1")
        await it.quiesce()
        assert summary(stays.received) == [("Cluster", "c1")]
        assert [each.node_id for each in it.hub.sessions] == ["stays"]


@asynchronous
async def test_server_stops_gracefully() -> None:
    """Stopping ends streams with OK: nothing is wrong, the client is to try again."""
    async with world(resource(CDS, "a")) as it:
        who = await it.connect(client(it))
        await who.subscribe(CDS)
        await it.quiesce()
        await it.stop_server(1)
        await who.until(lambda: who.ended is not None)
        assert who.ended is grpc.StatusCode.OK


# Make before break.


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


# Reconnecting.


@asynchronous
async def test_restarted_server_sends_nothing_again() -> None:
    """A new control plane with the same configuration sends empty wildcard answers and nothing else."""
    async with world(*bundle("e", "a", "b"), resource(LDS, "l")) as it:
        who = await it.connect(envoy(it))
        await news(it, who)
        await it.restart()
        await who.disconnect()
        await who.connect()
        assert await news(it, who) == [("Cluster",), ("Listener",), ("ScopedRouteConfiguration",)]
        everything = {(each.type_url, each.name): each.version for each in bundle("e", "a", "b")}
        assert it.hub.applied(everything).done
        assert sum(each.resources_sent for each in it.hub.envoys()[0].types) == 0


@asynchronous
async def test_reconnect_with_a_changed_cluster_brings_its_endpoints() -> None:
    """A cluster that changed meanwhile comes with its endpoints, although the client has those."""
    async with world(*bundle("e", "a", "b"), resource(LDS, "l")) as it:
        who = await it.connect(envoy(it))
        await news(it, who)
        await who.disconnect()
        targets = it.put(resource(CDS, "a", "2"))
        await who.connect()
        got = await news(it, who)
        assert ("Cluster", "a") in got
        assert [each for each in got if each[0] == "ClusterLoadAssignment"] == [("ClusterLoadAssignment", "a")]
        assert it.hub.applied(targets).done


@asynchronous
async def test_reconnect_while_warming_brings_the_endpoints() -> None:
    """A client that asks for endpoints before clusters is warming some, so it gets the endpoints it names."""
    async with world(*bundle("e", "a"), resource(LDS, "l")) as it:
        who = await it.connect(envoy(it))
        await it.quiesce()
        who.model.mute.add(EDS)
        who.model.warming.add("a")  # the stream broke between the cluster and its endpoints
        await who.disconnect()
        who.received.clear()
        who.model.mute.clear()
        await who.connect()
        await it.quiesce()
        assert summary(who.received)[0] == ("ClusterLoadAssignment", "a")
        assert who.model.warming == set()
        assert it.hub.sessions[0].unanswered == 0


@pytest.mark.parametrize("phase", [CDS, EDS, RDS, SRDS])
@BOTH
@asynchronous
async def test_reconnect_in_each_phase(variant: Variant, phase: str) -> None:
    """Wherever in an update the stream breaks, the client ends up with the new state after it is back."""
    async with world(*bundle("e", "a"), resource(LDS, "l")) as it:
        who = await it.connect(envoy(it, variant=variant))
        await it.quiesce()
        who.model.mute.add(phase)
        targets = it.put(*bundle("e", "b"), *bundle("f", "b"), removed=[(CDS, "a"), (EDS, "a")])
        await it.quiesce()
        await who.disconnect()
        who.model.mute.clear()
        await who.connect()
        await it.quiesce()
        verdict = await it.hub.wait_applied(targets, PATIENCE)
        assert verdict.done, verdict
        assert set(who.versions(CDS)) == {"b"}
