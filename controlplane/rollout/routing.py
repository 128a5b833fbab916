"""What Envoy is told about an endpoint now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain import Address, Deployment, Endpoint, EndpointConfig, Phase, Replica, UpdateState
from controlplane.rollout.state import Observed, Options, Published, deployment
from controlplane.translate.translate import EndpointView

#: Failures in a row up to which requests wait for the replacement instead of being refused.
HOLDING_FAILURES = 2


@dataclass(frozen=True, slots=True)
class Routing:
    """A view to publish, the config version it stands for, and when to ask again (monotonic seconds)."""

    view: EndpointView
    version: int | None
    wake_at: float | None = None


def route(
    name: str,
    endpoint: Endpoint | None,
    observed: Observed,
    previous: Published | None,
    *,
    now: float,
    options: Options,
) -> Routing:
    """The view of an endpoint (None: it is deleted) as of now.

    The pending config takes the traffic as soon as every entity it brings is ready. What it replaces keeps its cluster
    and its replicas until every Envoy has acknowledged the switch and `options.drain` has passed.
    """
    config = _routed(endpoint, observed) if endpoint else None
    version = config.version if config else None
    chosen: list[Deployment] = []
    split: list[tuple[Deployment, int]] = []
    if endpoint and config:
        percents = {line.served_entity: line.percent for line in config.traffic}
        chosen = [deployment(endpoint.id, entity) for entity in config.entities]
        split = [(where, percents.get(where.entity, 0)) for where in chosen]

    lingering, wake_at = _lingering(chosen, version, previous, now, options)
    kept = (
        {id_ for entity in config.entities for id_ in observed.kept(endpoint.id, entity)}
        if endpoint and config
        else set()
    )
    serving = [(where, [replica for replica in observed.of(where) if replica.id in kept]) for where in chosen]
    draining = [(where, observed.of(where)) for where in lingering]
    clusters = tuple((where, _addresses(replicas, observed)) for where, replicas in (*serving, *draining))
    rules = (endpoint.may_query, endpoint.limits) if endpoint else ()
    return Routing(EndpointView(name, endpoint is not None, tuple(split), clusters, *rules), version, wake_at)


def _routed(endpoint: Endpoint, observed: Observed) -> EndpointConfig | None:
    pending = endpoint.pending
    if endpoint.update is UpdateState.IN_PROGRESS and pending is not None:
        fresh = (entity for entity in pending.entities if entity.generation == pending.version)
        if all(observed.is_ready(endpoint.id, entity) for entity in fresh):
            return pending
    return endpoint.active if not endpoint.suspended else None


def _lingering(
    chosen: list[Deployment], version: int | None, previous: Published | None, now: float, options: Options
) -> tuple[list[Deployment], float | None]:
    """Deployments that take no new traffic but keep their cluster: a request may still be on its way to them."""
    if previous is None:
        return [], None
    replaced = [where for where, _ in previous.view.clusters if where not in chosen]
    if not replaced:
        return [], None
    if previous.version != version or previous.applied_at is None:
        return replaced, None  # asked again when the Envoys have acknowledged
    until = previous.applied_at + options.drain
    return (replaced, until) if now < until else ([], None)


def _addresses(replicas: list[Replica], observed: Observed) -> tuple[Address, ...]:
    ready = tuple(r.address for r in replicas if r.phase is Phase.READY and r.address)
    if ready:
        return ready
    # Nobody answers, but some keep their socket open while their process is replaced: requests wait there for the
    # few hundred milliseconds that takes, or wake it if it sleeps. Not when the process keeps failing: then a quick
    # refusal is kinder.
    return tuple(
        r.address
        for r in replicas
        if r.address
        and r.holds_connections
        and r.phase in {Phase.STARTING, Phase.FAILED, Phase.ASLEEP}
        and not r.permanent
        # One that sleeps is tried by nobody but the next request, however it has failed before.
        and (r.phase is Phase.ASLEEP or len(observed.failures.get(r.id, ())) <= HOLDING_FAILURES)
    )
