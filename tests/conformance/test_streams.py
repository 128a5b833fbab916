"""Streams: how they begin, what they carry, how they end, over a real stream (reference/xds.md, sections 1.3, 1.4, 3)."""

from __future__ import annotations

import grpc
import pytest

from controlplane.discovery.messages import DeltaRequest, Node, SotwRequest, Variant
from tests.conformance.clients import BOTH, client
from tests.controlplane.discovery.rig import (
    CDS,
    EDS,
    LDS,
    RDS,
    asynchronous,
    resource,
    summary,
    world,
)


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
        await stays.until(lambda: [each.node_id for each in it.hub.sessions] == ["stays"])


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
