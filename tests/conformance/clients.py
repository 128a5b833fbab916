"""Clients for the tests of the protocol, and what they are sent."""

from __future__ import annotations

import pytest

from controlplane.discovery.messages import Variant
from controlplane.translate.resource import Resource
from tests.controlplane.discovery.rig import (
    CDS,
    EDS,
    RDS,
    SRDS,
    FakeEnvoy,
    World,
    resource,
    summary,
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
