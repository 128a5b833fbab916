"""Clients that come back are sent what they lack, over a real stream (reference/xds.md, sections 1.3, 1.4, 3)."""

from __future__ import annotations

import pytest

from controlplane.discovery.messages import Variant
from controlplane.discovery.testing import PATIENCE
from tests.conformance.clients import BOTH, bundle, envoy, news
from tests.controlplane.discovery.rig import (
    CDS,
    EDS,
    LDS,
    RDS,
    SRDS,
    asynchronous,
    resource,
    summary,
    world,
)


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
