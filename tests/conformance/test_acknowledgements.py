"""What acknowledgements and refusals do, over a real stream (reference/xds.md, sections 1.3, 1.4, 3)."""

from __future__ import annotations

from controlplane.discovery.messages import DeltaRequest, Variant
from tests.conformance.clients import BOTH, client, news
from tests.controlplane.discovery.rig import (
    CDS,
    EDS,
    RDS,
    asynchronous,
    resource,
    summary,
    world,
)


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
