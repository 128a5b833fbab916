"""How an endpoint changes: pure transitions, each from one stored value to the next.

Every transition adds one to `revision`; the store accepts it only if nobody else was faster. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from controlplane.domain import (
    Endpoint,
    EndpointConfig,
    EntitySpec,
    Outcome,
    Problem,
    ProblemCode,
    ProblemError,
    RateLimit,
    ServedEntity,
    Tag,
    TrafficRoute,
    UpdateState,
)


def create(
    *,
    endpoint_id: str,
    name: str,
    creator: str,
    now_ms: int,
    description: str = "",
    tags: Iterable[Tag] = (),
    route_optimized: bool = False,
    rate_limits: Iterable[RateLimit] = (),
    gateway_limits: Iterable[RateLimit] = (),
    echoed: tuple[tuple[str, str], ...] = (),
) -> Endpoint:
    """A new endpoint that has no config yet."""
    return Endpoint(
        id=endpoint_id,
        name=name,
        creator=creator,
        created_ms=now_ms,
        updated_ms=now_ms,
        update=UpdateState.NOT_UPDATING,
        description=description,
        tags=tuple(tags),
        route_optimized=route_optimized,
        rate_limits=tuple(rate_limits),
        gateway_limits=tuple(gateway_limits),
        echoed=echoed,
    )


def amend(changed: Endpoint, now_ms: int) -> Endpoint:
    """An endpoint of which something outside its configs was changed, as its own successor."""
    return replace(changed, updated_ms=now_ms, revision=changed.revision + 1)


def begin_update(
    endpoint: Endpoint,
    specs: Iterable[EntitySpec],
    traffic: Iterable[TrafficRoute],
    artifacts: Mapping[tuple[str, str], str],
    *,
    creator: str,
    now_ms: int,
    echoed: tuple[tuple[str, str], ...] = (),
) -> Endpoint:
    """The endpoint with these entities and this split pending, IN_PROGRESS.

    `artifacts` gives the artifact URI of each (registered model, version). An entity that shares the replicas of one in
    the active config and has its artifact keeps its generation, and with it its replicas and its Envoy cluster. What is
    stopped has no replicas; its update starts it, with all of them new.

    Raises ProblemError (RESOURCE_CONFLICT) while an update is in progress.
    """
    refuse_while_updating(endpoint)
    version = endpoint.latest_version + 1
    running = endpoint.active if not endpoint.suspended else None
    active = {entity.name: entity for entity in running.entities} if running else {}

    def accepted(spec: EntitySpec) -> ServedEntity:
        artifact = artifacts[spec.entity_name, spec.entity_version]
        present = active.get(spec.name)
        if present is not None and present.spec.shares_replicas(spec) and present.artifact_uri == artifact:
            return replace(present, spec=spec)
        return ServedEntity(spec, version, artifact, creator, now_ms)

    config = EndpointConfig(version, tuple(accepted(spec) for spec in specs), tuple(traffic), now_ms, echoed, creator)
    return replace(
        endpoint,
        pending=config,
        update=UpdateState.IN_PROGRESS,
        outcomes=(),
        updated_ms=now_ms,
        revision=endpoint.revision + 1,
    )


def succeed(endpoint: Endpoint, now_ms: int) -> Endpoint:
    """The endpoint whose pending config has become the active one."""
    assert endpoint.update is UpdateState.IN_PROGRESS
    assert endpoint.pending is not None
    return replace(
        endpoint,
        active=endpoint.pending,
        pending=None,
        update=UpdateState.NOT_UPDATING,
        outcomes=(),
        suspended=False,
        updated_ms=now_ms,
        revision=endpoint.revision + 1,
    )


def fail(endpoint: Endpoint, outcomes: Iterable[Outcome], now_ms: int) -> Endpoint:
    """The endpoint whose update failed: the active config stays as it is, the pending one stays for diagnosis."""
    assert endpoint.update is UpdateState.IN_PROGRESS
    return replace(
        endpoint,
        update=UpdateState.UPDATE_FAILED,
        outcomes=tuple(outcomes),
        updated_ms=now_ms,
        revision=endpoint.revision + 1,
    )


def cancel(endpoint: Endpoint, now_ms: int) -> Endpoint:
    """The endpoint whose update was called off: the active config goes on as if nothing had happened.

    Raises ProblemError (RESOURCE_CONFLICT) when no update is in progress.
    """
    if endpoint.update is not UpdateState.IN_PROGRESS:
        raise _conflict(f"Endpoint {endpoint.name} has no update in progress that could be canceled.")
    return replace(
        endpoint,
        update=UpdateState.UPDATE_CANCELED,
        outcomes=(),
        updated_ms=now_ms,
        revision=endpoint.revision + 1,
    )


def asks_for(
    endpoint: Endpoint,
    specs: Iterable[EntitySpec],
    traffic: Iterable[TrafficRoute],
    echoed: tuple[tuple[str, str], ...],
) -> bool:
    """True when the config that serves, or is about to, is what these ask for: an update would change nothing.

    After an update that failed or was canceled it is never so: the next one clears that away.
    """
    config = endpoint.pending if endpoint.update is UpdateState.IN_PROGRESS else endpoint.active
    if config is None or endpoint.update in {UpdateState.UPDATE_FAILED, UpdateState.UPDATE_CANCELED}:
        return False
    present = tuple(entity.spec for entity in config.entities), config.traffic, config.echoed
    return present == (tuple(specs), tuple(traffic), echoed)


def begin_again(endpoint: Endpoint, config: EndpointConfig, *, creator: str, now_ms: int) -> Endpoint:
    """As `begin_update`, with what an earlier config version of the endpoint asked for."""
    artifacts = {(each.spec.entity_name, each.spec.entity_version): each.artifact_uri for each in config.entities}
    specs = (entity.spec for entity in config.entities)
    return begin_update(
        endpoint, specs, config.traffic, artifacts, creator=creator, now_ms=now_ms, echoed=config.echoed
    )


def stop(endpoint: Endpoint, now_ms: int) -> Endpoint:
    """The endpoint without replicas until it is started; one that is stopped already is returned as it is.

    Raises ProblemError: RESOURCE_CONFLICT while an update is in progress, BAD_REQUEST when nothing was ever deployed.
    """
    refuse_while_updating(endpoint)
    if endpoint.active is None:
        message = (
            f"Endpoint {endpoint.name} serves nothing that could be stopped: it has no config that was ever ready."
        )
        raise ProblemError(Problem("", ProblemCode.BAD_REQUEST, message))
    if endpoint.suspended:
        return endpoint
    return replace(endpoint, suspended=True, updated_ms=now_ms, revision=endpoint.revision + 1)


def start(endpoint: Endpoint, *, creator: str, now_ms: int) -> Endpoint:
    """The stopped endpoint with its config pending under a new version; it stays stopped until that is ready.

    Raises ProblemError: RESOURCE_CONFLICT while an update is in progress, BAD_REQUEST when it is not stopped.
    """
    refuse_while_updating(endpoint)
    if endpoint.active is None or not endpoint.suspended:
        raise ProblemError(Problem("", ProblemCode.BAD_REQUEST, f"Endpoint {endpoint.name} is not stopped."))
    return begin_again(endpoint, endpoint.active, creator=creator, now_ms=now_ms)


def refuse_while_updating(endpoint: Endpoint) -> None:
    """Raises ProblemError (RESOURCE_CONFLICT) while an update is in progress."""
    if endpoint.update is UpdateState.IN_PROGRESS:
        raise _conflict(
            f"Endpoint {endpoint.name} is being updated (config version {endpoint.latest_version}); "
            "wait until state.config_update is no longer IN_PROGRESS, then try again."
        )


def _conflict(message: str) -> ProblemError:
    return ProblemError(Problem("", ProblemCode.RESOURCE_CONFLICT, message))
