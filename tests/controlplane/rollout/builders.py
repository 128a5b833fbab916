"""Values for the tests of this folder, with defaults that make the common case short."""

from __future__ import annotations

from dataclasses import replace

from controlplane.domain import Address, Endpoint, EntitySpec, Phase, Replica, TrafficRoute
from controlplane.rollout import lifecycle
from controlplane.rollout.autoscale import bounds
from controlplane.rollout.routing import route
from controlplane.rollout.state import Observed, Options, Published, deployment, replica_id

NOW = 1_000.0
NOW_MS = 1_000_000
OPTIONS = Options(drain=1.0, grace=30.0, deploy_timeout=60.0)


def specs(**versions: str) -> list[EntitySpec]:
    """Entities by name, each with a version of the model `churn`."""
    return [EntitySpec(name=name, entity_name="churn", entity_version=version) for name, version in versions.items()]


def split(**percents: int) -> list[TrafficRoute]:
    """A traffic split."""
    return [TrafficRoute(name, percent) for name, percent in percents.items()]


def even(entities: list[EntitySpec]) -> list[TrafficRoute]:
    """All traffic to the first entity."""
    return [TrafficRoute(entity.name, 100 if number == 0 else 0) for number, entity in enumerate(entities)]


def begin(
    endpoint: Endpoint, entities: list[EntitySpec], traffic: list[TrafficRoute] | None = None, *, now_ms: int = NOW_MS
) -> Endpoint:
    """An update in progress."""
    artifacts = {(each.entity_name, each.entity_version): f"/models/{each.entity_version}" for each in entities}
    return lifecycle.begin_update(endpoint, entities, traffic or even(entities), artifacts, creator="me", now_ms=now_ms)


def empty(name: str = "ep") -> Endpoint:
    """An endpoint without a config."""
    return lifecycle.create(endpoint_id="e" * 32, name=name, creator="me", now_ms=NOW_MS)


def active(*, traffic: list[TrafficRoute] | None = None, **versions: str) -> Endpoint:
    """An endpoint whose first config is deployed."""
    return lifecycle.succeed(begin(empty(), specs(**versions), traffic), NOW_MS)


def replicas(endpoint: Endpoint, *, phase: Phase = Phase.READY, pending: bool = False) -> list[Replica]:
    """All replicas that the active (or the pending) config wants, in one phase."""
    config = endpoint.pending if pending else endpoint.active
    assert config is not None
    out = []
    for entity in config.entities:
        where = deployment(endpoint.id, entity)
        for slot in range(bounds(entity).least):
            id_ = replica_id(where, slot)
            out.append(Replica(id_, where, phase, Address(path=f"/run/{id_}.sock"), pid=1))
    return out


def observed(*found: list[Replica], **failures: tuple[float, ...]) -> Observed:
    """Replicas from several lists; the same id counts once, the last wins."""
    merged = {replica.id: replica for each in found for replica in each}
    return Observed(tuple(merged.values()), dict(failures))


def published(
    endpoint: Endpoint, seen: Observed, *, at: float | None = NOW, before: Published | None = None
) -> Published:
    """What would be published now, acknowledged by every Envoy at `at`."""
    routing = route(endpoint.name, endpoint, seen, before, now=NOW, options=OPTIONS)
    return Published(routing.view, routing.version, applied_at=at, settled_at=at)


def with_phase(replica: Replica, phase: Phase, message: str = "", *, permanent: bool = False) -> Replica:
    """The replica in another phase."""
    return replace(replica, phase=phase, message=message, permanent=permanent)
