"""What the decisions of this package are made from, as values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.domain import Deployment, Endpoint, Phase, Replica, ServedEntity, UpdateState
from controlplane.rollout.autoscale import bounds
from controlplane.translate.translate import EndpointView


@dataclass(frozen=True, slots=True)
class Options:
    """Intervals, in seconds, that users may change (`wye settings`)."""

    #: How long replaced replicas go on serving after every Envoy has acknowledged that they are replaced.
    drain: float = 1.0
    #: How long a replica that is told to stop may go on with the requests it has.
    grace: float = 300.0
    #: How long an update may take before it is given up.
    deploy_timeout: float = 1200.0


@dataclass(frozen=True, slots=True)
class Published:
    """What was last published for an endpoint, and how far the Envoys are with it."""

    view: EndpointView
    #: Version of the config that takes the traffic in it; None when there is none.
    version: int | None
    #: Since when every connected Envoy has acknowledged all of it (monotonic seconds); None while one has not.
    applied_at: float | None = None
    #: The same, with every Envoy counted that may still route by an older state because it is out of touch.
    settled_at: float | None = None
    #: Envoy's own words where it refused a part of it.
    rejected: str = ""
    #: Who waits for what, in words, while `applied_at` is None.
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """An endpoint's replicas, when each has failed (monotonic seconds, oldest first), and how many there are to be."""

    replicas: tuple[Replica, ...]
    failures: Mapping[str, tuple[float, ...]]
    #: What the autoscaler says, 0 meaning asleep; a deployment that is not in it has its least number.
    wanted: Mapping[Deployment, int] = field(default_factory=dict)

    def of(self, deployment: Deployment) -> list[Replica]:
        """The replicas of one deployment, sorted by id."""
        return sorted((r for r in self.replicas if r.deployment == deployment), key=lambda replica: replica.id)

    def is_ready(self, endpoint_id: str, entity: ServedEntity) -> bool:
        """True when as many replicas answer, or would if they were asked, as the entity is to have."""
        found = self.of(deployment(endpoint_id, entity))
        answering = sum(replica.phase in {Phase.READY, Phase.ASLEEP} for replica in found)
        return answering >= len(self.kept(endpoint_id, entity))

    def sleeps(self, endpoint_id: str, entity: ServedEntity) -> bool:
        """True when nobody has asked for the entity for so long that it is to have no process."""
        return self.wanted.get(deployment(endpoint_id, entity)) == 0

    def kept(self, endpoint_id: str, entity: ServedEntity) -> tuple[str, ...]:
        """The ids of the replicas that the entity is to have, the sleeping one included.

        Those that serve come first: none of them is given up for one that does not. What is ending keeps its slot to itself.
        """
        where = deployment(endpoint_id, entity)
        count = max(1, self.wanted.get(where, bounds(entity).least))
        present = self.of(where)
        ranks = _SLEEPER_FIRST if self.sleeps(endpoint_id, entity) else _SERVING_FIRST
        staying = sorted((ranks[r.phase], len(r.id), r.id) for r in present if r.phase in ranks)[:count]
        taken = {replica.id for replica in present}
        free = (id_ for slot in itertools.count() if (id_ := replica_id(where, slot)) not in taken)
        return (*(id_ for *_, id_ in staying), *itertools.islice(free, count - len(staying)))


#: Which replicas an entity keeps when it is to have fewer, first ones first.
_SERVING_FIRST = {Phase.READY: 0, Phase.STARTING: 1, Phase.ASLEEP: 1, Phase.FAILED: 2}
_SLEEPER_FIRST = {Phase.ASLEEP: 0, Phase.READY: 1, Phase.STARTING: 2, Phase.FAILED: 3}


def deployment(endpoint_id: str, entity: ServedEntity) -> Deployment:
    """The identity under which an entity is deployed."""
    return Deployment(endpoint_id, entity.name, entity.generation)


def replica_id(where: Deployment, slot: int) -> str:
    """The id of the replica in a slot: the same whoever computes it, so that starting is idempotent."""
    return f"{where.endpoint_id[:8]}-{where.generation}-{where.entity}-{slot}"


def new_entities(endpoint: Endpoint) -> tuple[ServedEntity, ...]:
    """The entities that the update under way has to bring up; those it takes over unchanged are not its business."""
    if endpoint.update is not UpdateState.IN_PROGRESS or endpoint.pending is None:
        return ()
    return tuple(entity for entity in endpoint.pending.entities if entity.generation == endpoint.pending.version)


def wanted_entities(endpoint: Endpoint) -> Iterable[ServedEntity]:
    """Every entity that replicas are kept for: those of the active config, unless it is stopped, and new ones."""
    yield from endpoint.active.entities if endpoint.active and not endpoint.suspended else ()
    yield from new_entities(endpoint)
