"""How many replicas each deployment is to have now: what the autoscaler says of the loads that were heard. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from controlplane.domain import Deployment, Endpoint
from controlplane.rollout.autoscale import (
    UNITS_PER_REPLICA,
    Bounds,
    History,
    Sample,
    ScaleOptions,
    bounds,
    cap,
    scale,
)
from controlplane.rollout.capacity import Room
from controlplane.rollout.loads import ClusterLoad
from controlplane.rollout.state import deployment, new_entities, wanted_entities
from controlplane.translate import names


@dataclass(slots=True)
class _Scaled:
    """A deployment that is followed."""

    cluster: str
    bounds: Bounds
    history: History
    replicas: int
    ask_again_at: float | None = None
    capped: str = ""
    room: Room | None = None


@dataclass(slots=True)
class Scaler:
    """Follows endpoints; its answers change when a load is heard, and when time passes (`ask_again_at`)."""

    options: ScaleOptions
    _endpoints: dict[str, dict[Deployment, _Scaled]] = field(default_factory=dict)
    _by_cluster: dict[str, Deployment] = field(default_factory=dict)

    def follow(
        self,
        endpoint_id: str,
        endpoint: Endpoint | None,
        now: float,
        awake: Mapping[Deployment, int] = MappingProxyType({}),
        room: Callable[[Deployment], Room | None] = lambda _: None,
        granted: Callable[[Deployment, int], None] = lambda *_: None,
    ) -> None:
        """Keep to what the endpoint wants now (None: it is deleted), and look at the time and the `room` there is.

        `granted` hears how many replicas each entity is to have, before there is asked for the next one's room.

        An entity that an update brings up is taken to be asked for, so that it is started and proves itself. One of an
        active config that was never heard of (the control plane has just started, or taken over) is taken to be idle,
        unless it is among those `awake`: so many replicas of it are there, and it keeps them as after a load that needed them.
        """
        known = self._endpoints.get(endpoint_id, {})
        fresh = {deployment(endpoint_id, entity) for entity in new_entities(endpoint)} if endpoint else set()
        kept: dict[Deployment, _Scaled] = {}
        for entity in wanted_entities(endpoint) if endpoint else ():
            where = deployment(endpoint_id, entity)
            assert endpoint is not None
            scaled = known.get(where)
            within = bounds(entity)
            if scaled is None:
                there = awake.get(where, 0)
                if where in fresh:  # it takes the place, and the load, of one of the same name
                    there = max(there, *(other.replicas for at, other in kept.items() if at.entity == where.entity), 0)
                history = History(active_at=now if where in fresh or there else -math.inf)
                if there > within.least:
                    history = replace(history, samples=(Sample(now, there * UNITS_PER_REPLICA), Sample(now, 0)))
                scaled = _Scaled(names.cluster(endpoint.name, where), within, history, 0)
                self._by_cluster[scaled.cluster] = where
            kept[where] = scaled
            scaled.bounds, scaled.room = within, room(where)
            self._look(scaled, now)
            granted(where, scaled.replicas)
        for where in known.keys() - kept.keys():
            self._by_cluster.pop(known[where].cluster, None)
        if kept:
            self._endpoints[endpoint_id] = kept
        else:
            self._endpoints.pop(endpoint_id, None)

    def heard(self, loads: Mapping[str, ClusterLoad], now: float) -> set[str]:
        """Take the loads of clusters; the ids of the endpoints to look at: the answer has changed, or will with time."""
        changed: set[str] = set()
        for cluster, load in loads.items():
            where = self._by_cluster.get(cluster)
            if where is not None and self._sample(where, load.concurrency, now, active=load.active):
                changed.add(where.endpoint_id)
        return changed

    def woke(self, where: Deployment, now: float) -> None:
        """A replica was woken by a request, which the next report may be too late to tell."""
        self._sample(where, 1, now, active=True)

    def wanted(self, endpoint_id: str) -> dict[Deployment, int]:
        """How many replicas each deployment of the endpoint is to have; 0 means asleep."""
        return {where: scaled.replicas for where, scaled in self._endpoints.get(endpoint_id, {}).items()}

    def capped(self, endpoint_id: str) -> dict[Deployment, str]:
        """Why deployments of the endpoint have fewer replicas than they should, of those that have."""
        found = self._endpoints.get(endpoint_id, {})
        return {where: scaled.capped for where, scaled in found.items() if scaled.capped}

    def ask_again_at(self, endpoint_id: str) -> float | None:
        """When to `follow` the endpoint again though nothing is heard until then."""
        times = (scaled.ask_again_at for scaled in self._endpoints.get(endpoint_id, {}).values())
        return min((at for at in times if at is not None), default=None)

    def _sample(self, where: Deployment, concurrency: float, now: float, *, active: bool) -> bool:
        scaled = self._endpoints.get(where.endpoint_id, {}).get(where)
        if scaled is None:
            return False
        scaled.history = scaled.history.then(Sample(now, concurrency), active=active, options=self.options)
        return self._look(scaled, now)

    def _look(self, scaled: _Scaled, now: float) -> bool:
        """Bring the answer up to date; True when it has changed, or when time may change it sooner than was thought."""
        before, sooner_than = scaled.replicas, scaled.ask_again_at
        answer = cap(scale(scaled.history, scaled.bounds, now, self.options), scaled.room, now)
        scaled.replicas, scaled.ask_again_at, scaled.capped = answer.replicas, answer.ask_again_at, answer.capped
        sooner = answer.ask_again_at is not None and (sooner_than is None or answer.ask_again_at < sooner_than)
        return scaled.replicas != before or sooner
