"""What a state-of-the-world client subscribes to, over a real stream (reference/xds.md, sections 1.3, 1.4, 3)."""

from __future__ import annotations

from controlplane.discovery.messages import SotwRequest, Variant
from tests.conformance.clients import client, news
from tests.controlplane.discovery.rig import (
    CDS,
    EDS,
    asynchronous,
    resource,
    world,
)


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
