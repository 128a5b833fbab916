"""What a delta client subscribes to, over a real stream (reference/xds.md, sections 1.3, 1.4, 3)."""

from __future__ import annotations

from controlplane.discovery.messages import DeltaRequest
from tests.conformance.clients import client, news
from tests.controlplane.discovery.rig import (
    CDS,
    EDS,
    LDS,
    RDS,
    asynchronous,
    resource,
    world,
)


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
