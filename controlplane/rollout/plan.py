"""What is to be done for an endpoint now: replicas to start and to stop, and the end of its update. Pure.

Carrying a plan out twice does no more than carrying it out once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.domain import (
    Endpoint,
    Outcome,
    Phase,
    Replica,
    ReplicaSpec,
    ServedEntity,
    UpdateState,
    secret_reference,
)
from controlplane.rollout import lifecycle, restart
from controlplane.rollout.state import (
    Observed,
    Options,
    Published,
    deployment,
    new_entities,
    wanted_entities,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `wake_at` is when to plan again (monotonic seconds) though nothing has changed until then."""

    start: tuple[ReplicaSpec, ...] = ()
    #: (replica id, seconds of grace)
    stop: tuple[tuple[str, float], ...] = ()
    #: Replicas that nobody has asked for in a long time, by what they are to wake by, and seconds of grace.
    sleep: tuple[tuple[ReplicaSpec, float], ...] = ()
    #: The endpoint's next stored value when its update has ended, one way or the other.
    finished: Endpoint | None = None
    wake_at: float | None = None


def plan(
    endpoint: Endpoint | None,
    observed: Observed,
    published: Published | None,
    *,
    now: float,
    now_ms: int,
    options: Options,
) -> Plan:
    """The plan for an endpoint (None: it is deleted) as of now."""
    finished = _finish(endpoint, observed, published, now=now, now_ms=now_ms, options=options) if endpoint else None
    if finished is not None:
        return Plan(finished=finished)  # what it leaves to start or stop is planned from the stored value
    starts, start_wakes = _starts(endpoint, observed, now) if endpoint else ((), [])
    stops, stop_wakes = _stops(endpoint, observed, published, now, options)
    wakes = [*start_wakes, *stop_wakes]
    if endpoint and endpoint.update is UpdateState.IN_PROGRESS and endpoint.pending:
        wakes.append(now + max(0.0, _deadline(endpoint, options) - now_ms / 1000))
    return Plan(starts, stops, _sleeps(endpoint, observed, options) if endpoint else (), None, min(wakes, default=None))


def _starts(endpoint: Endpoint, observed: Observed, now: float) -> tuple[tuple[ReplicaSpec, ...], list[float]]:
    specs: list[ReplicaSpec] = []
    wakes: list[float] = []
    pending = new_entities(endpoint)
    for entity in wanted_entities(endpoint):
        present = {replica.id: replica for replica in observed.of(deployment(endpoint.id, entity))}
        sleeps = observed.sleeps(endpoint.id, entity)
        asleep = sleeps and entity not in pending  # a new one has to show that it loads
        for id_ in observed.kept(endpoint.id, entity):
            replica = present.get(id_)
            if replica is None or (replica.phase is Phase.ASLEEP and not sleeps):
                # A sleeper beside others that are awake is never asked, and would sleep for ever.
                specs.append(_spec(endpoint, entity, id_, asleep=asleep))
            elif replica.phase is Phase.FAILED:
                again = _verdict(replica, observed, entity not in pending, now)
                if isinstance(again, restart.Again):
                    if again.at <= now:
                        specs.append(_spec(endpoint, entity, id_, asleep=asleep))
                    else:
                        wakes.append(again.at)
    return tuple(specs), wakes


def sleepers(endpoint: Endpoint, observed: Observed, place: tuple[str, str]) -> tuple[ReplicaSpec, ...]:
    """Those of the endpoint's replicas that sleep, or are just being sent to, and refer to the secret at this place."""
    return tuple(
        _spec(endpoint, entity, replica.id, asleep=True)
        for entity in wanted_entities(endpoint)
        if any(secret_reference(value) == place for _, value in entity.spec.environment_vars)
        for replica in observed.of(deployment(endpoint.id, entity))
        if replica.phase is Phase.ASLEEP or (replica.phase is Phase.READY and observed.sleeps(endpoint.id, entity))
    )


def _stops(
    endpoint: Endpoint | None, observed: Observed, published: Published | None, now: float, options: Options
) -> tuple[tuple[tuple[str, float], ...], list[float]]:
    """Replicas that nothing wants any more, once no Envoy can still send them a request."""
    wanted: set[str] = set()
    if endpoint:
        for entity in wanted_entities(endpoint):
            wanted.update(observed.kept(endpoint.id, entity))
    unwanted = [r for r in observed.replicas if r.id not in wanted and r.phase is not Phase.STOPPING]
    if not unwanted:
        return (), []
    if published is None:
        return tuple((replica.id, options.grace) for replica in unwanted), []
    listed = {address for _, addresses in published.view.clusters for address in addresses}
    unlisted = [replica for replica in unwanted if replica.address is None or replica.address not in listed]
    if not unlisted or published.settled_at is None:
        return (), []
    at = published.settled_at + options.drain
    if now < at:
        return (), [at]
    return tuple((replica.id, options.grace) for replica in sorted(unlisted, key=lambda r: r.id)), []


def _sleeps(endpoint: Endpoint, observed: Observed, options: Options) -> tuple[tuple[ReplicaSpec, float], ...]:
    """Replicas to be sent to sleep: Envoy goes on listing them, and the next request wakes them."""
    return tuple(
        (_spec(endpoint, entity, replica.id, asleep=True), options.grace)
        for entity in wanted_entities(endpoint)
        if observed.sleeps(endpoint.id, entity)
        for replica in observed.of(deployment(endpoint.id, entity))
        if replica.phase is Phase.READY and replica.id in observed.kept(endpoint.id, entity)
    )


def _finish(
    endpoint: Endpoint, observed: Observed, published: Published | None, *, now: float, now_ms: int, options: Options
) -> Endpoint | None:
    """The endpoint after its update, if that has succeeded or failed by now."""
    pending = endpoint.pending
    if endpoint.update is not UpdateState.IN_PROGRESS or pending is None:
        return None
    words = {
        entity.name: replica.message or "The replica ended without a word."
        for entity in new_entities(endpoint)
        for replica in observed.of(deployment(endpoint.id, entity))
        if replica.phase is Phase.FAILED and isinstance(_verdict(replica, observed, False, now), restart.GiveUp)
    }
    if words:
        return lifecycle.fail(endpoint, _outcomes(pending.entities, words), now_ms)
    if published is not None and published.version == pending.version:
        if published.rejected:
            refused = f"Envoy refused the configuration: {published.rejected}"
            return lifecycle.fail(
                endpoint, _outcomes(pending.entities, {e.name: refused for e in pending.entities}), now_ms
            )
        if published.applied_at is not None:
            return lifecycle.succeed(endpoint, now_ms)
    if now_ms / 1000 >= _deadline(endpoint, options):
        return lifecycle.fail(endpoint, _timed_out(endpoint, observed, published), now_ms)
    return None


def _verdict(replica: Replica, observed: Observed, serving: bool, now: float) -> restart.Again | restart.GiveUp:
    failures = observed.failures.get(replica.id, ())
    return restart.verdict(failures, permanent=replica.permanent, serving=serving, now=now)


def _deadline(endpoint: Endpoint, options: Options) -> float:
    assert endpoint.pending is not None
    return endpoint.pending.started_ms / 1000 + options.deploy_timeout


def _timed_out(endpoint: Endpoint, observed: Observed, published: Published | None) -> tuple[Outcome, ...]:
    assert endpoint.pending is not None
    said = {}
    for entity in endpoint.pending.entities:
        replicas = observed.of(deployment(endpoint.id, entity))
        last = next(
            (replica.message for replica in replicas if replica.phase is not Phase.READY and replica.message), ""
        )
        last = last or (published.waiting if published else "")
        said[entity.name] = "Served model creation aborted because the endpoint update timed out. " + last
    return tuple(Outcome(name, failed=False, message=message.strip()) for name, message in said.items())


def _outcomes(entities: Iterable[ServedEntity], words: dict[str, str]) -> tuple[Outcome, ...]:
    blamed = ", ".join(words)
    return tuple(
        Outcome(entity.name, True, words[entity.name])
        if entity.name in words
        else Outcome(entity.name, False, f"Served model creation aborted because of {blamed}.")
        for entity in entities
    )


def _spec(endpoint: Endpoint, entity: ServedEntity, id_: str, *, asleep: bool = False) -> ReplicaSpec:
    return ReplicaSpec(
        id=id_,
        deployment=deployment(endpoint.id, entity),
        title=f"{endpoint.name}/{entity.name}",
        artifact_uri=entity.artifact_uri,
        entity_name=entity.spec.entity_name,
        entity_version=entity.spec.entity_version,
        environment_vars=entity.spec.environment_vars,
        workload_size=entity.spec.workload_size or "",
        asleep=asleep,
    )
