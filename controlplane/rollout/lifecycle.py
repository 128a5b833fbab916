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
        echoed=echoed,
    )


def begin_update(
    endpoint: Endpoint,
    specs: Iterable[EntitySpec],
    traffic: Iterable[TrafficRoute],
    artifacts: Mapping[tuple[str, str], str],
    *,
    creator: str,
    now_ms: int,
) -> Endpoint:
    """The endpoint with these entities and this split pending, IN_PROGRESS.

    `artifacts` gives the artifact URI of each (registered model, version). An entity whose spec and artifact are those
    of the active config keeps its generation, and with it its replicas and its Envoy cluster.

    Raises ProblemError (RESOURCE_CONFLICT) while an update is in progress.
    """
    if endpoint.update is UpdateState.IN_PROGRESS:
        raise ProblemError(
            Problem(
                "",
                ProblemCode.RESOURCE_CONFLICT,
                f"Endpoint {endpoint.name} is being updated (config version {endpoint.latest_version}); "
                "wait until state.config_update is no longer IN_PROGRESS, then try again.",
            )
        )
    version = endpoint.latest_version + 1
    active = {entity.name: entity for entity in endpoint.active.entities} if endpoint.active else {}

    def accepted(spec: EntitySpec) -> ServedEntity:
        artifact = artifacts[spec.entity_name, spec.entity_version]
        present = active.get(spec.name)
        if present is not None and present.spec == spec and present.artifact_uri == artifact:
            return present
        return ServedEntity(spec, version, artifact, creator, now_ms)

    config = EndpointConfig(version, tuple(accepted(spec) for spec in specs), tuple(traffic), now_ms)
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
