"""Endpoints and configs as JSON documents. What an older release stored is read with the defaults of this one.

Keys are written out one by one instead of being derived from the dataclasses, so that renaming a field in the code
cannot silently change what is on disk.

What many endpoints have in common, or has more than one owner in memory, is interned: ten thousand endpoints take a tenth less.
"""

from __future__ import annotations

from sys import intern
from typing import Any

import orjson

from controlplane.domain import (
    Endpoint,
    EndpointConfig,
    EntitySpec,
    Grant,
    LimitKey,
    Outcome,
    Permission,
    PrincipalKind,
    RateLimit,
    ServedEntity,
    Tag,
    TrafficRoute,
    UpdateState,
    WorkloadSize,
)

JsonObject = dict[str, Any]


def encode_endpoint(endpoint: Endpoint) -> str:
    """The document of an endpoint; equal endpoints have equal documents."""
    return _text(
        {
            "id": endpoint.id,
            "name": endpoint.name,
            "creator": endpoint.creator,
            "created_ms": endpoint.created_ms,
            "updated_ms": endpoint.updated_ms,
            "update": endpoint.update.value,
            "active": None if endpoint.active is None else _config(endpoint.active),
            "pending": None if endpoint.pending is None else _config(endpoint.pending),
            "outcomes": [[outcome.served_entity, outcome.failed, outcome.message] for outcome in endpoint.outcomes],
            "description": endpoint.description,
            "tags": [[tag.key, tag.value] for tag in endpoint.tags],
            "route_optimized": endpoint.route_optimized,
            "suspended": endpoint.suspended,
            "grants": [[grant.kind.value, grant.name, grant.permission.value] for grant in endpoint.grants],
            "rate_limits": _limits(endpoint.rate_limits),
            "gateway_limits": _limits(endpoint.gateway_limits),
            "echoed": endpoint.echoed,
            "revision": endpoint.revision,
        }
    )


def decode_endpoint(document: str) -> Endpoint:
    """The endpoint that was encoded as `document`."""
    data = orjson.loads(document)
    active, pending = data.get("active"), data.get("pending")
    return Endpoint(
        id=intern(data["id"]),
        name=intern(data["name"]),
        creator=intern(data["creator"]),
        created_ms=data["created_ms"],
        updated_ms=data["updated_ms"],
        update=UpdateState(data["update"]),
        active=None if active is None else _read_config(active),
        pending=None if pending is None else _read_config(pending),
        outcomes=tuple(Outcome(*outcome) for outcome in data.get("outcomes", ())),
        description=data.get("description", ""),
        tags=tuple(Tag(*tag) for tag in data.get("tags", ())),
        route_optimized=data.get("route_optimized", False),
        suspended=data.get("suspended", False),
        grants=tuple(
            Grant(PrincipalKind(kind), intern(name), Permission(level)) for kind, name, level in data.get("grants", ())
        ),
        rate_limits=_read_limits(data.get("rate_limits", ())),
        gateway_limits=_read_limits(data.get("gateway_limits", ())),
        echoed=_pairs(data.get("echoed", ())),
        revision=data["revision"],
    )


def encode_config(config: EndpointConfig) -> str:
    """The document of one config version."""
    return _text(_config(config))


def decode_config(document: str) -> EndpointConfig:
    """The config that was encoded as `document`."""
    return _read_config(orjson.loads(document))


def _text(data: JsonObject) -> str:
    return orjson.dumps(data).decode()


def _config(config: EndpointConfig) -> JsonObject:
    return {
        "version": config.version,
        "entities": [_entity(entity) for entity in config.entities],
        "traffic": [[route.served_entity, route.percent] for route in config.traffic],
        "started_ms": config.started_ms,
        "echoed": config.echoed,
        "creator": config.creator,
    }


def _read_config(data: JsonObject) -> EndpointConfig:
    return EndpointConfig(
        version=data["version"],
        entities=tuple(_read_entity(entity) for entity in data["entities"]),
        traffic=tuple(TrafficRoute(intern(entity), percent) for entity, percent in data["traffic"]),
        started_ms=data["started_ms"],
        echoed=_pairs(data.get("echoed", ())),
        creator=intern(data.get("creator", "")),
    )


def _entity(entity: ServedEntity) -> JsonObject:
    return {
        "spec": _spec(entity.spec),
        "generation": entity.generation,
        "artifact_uri": entity.artifact_uri,
        "creator": entity.creator,
        "created_ms": entity.created_ms,
    }


def _read_entity(data: JsonObject) -> ServedEntity:
    return ServedEntity(
        spec=_read_spec(data["spec"]),
        generation=data["generation"],
        artifact_uri=intern(data["artifact_uri"]),
        creator=intern(data["creator"]),
        created_ms=data["created_ms"],
    )


def _spec(spec: EntitySpec) -> JsonObject:
    return {
        "name": spec.name,
        "entity_name": spec.entity_name,
        "entity_version": spec.entity_version,
        "workload_size": None if spec.workload_size is None else spec.workload_size.value,
        "workload_type": spec.workload_type,
        "scale_to_zero_enabled": spec.scale_to_zero_enabled,
        "min_provisioned_concurrency": spec.min_provisioned_concurrency,
        "max_provisioned_concurrency": spec.max_provisioned_concurrency,
        "environment_vars": spec.environment_vars,
        "alias": spec.alias,
        "echoed": spec.echoed,
    }


def _read_spec(data: JsonObject) -> EntitySpec:
    size = data.get("workload_size")
    return EntitySpec(
        name=intern(data["name"]),
        entity_name=intern(data["entity_name"]),
        entity_version=intern(data["entity_version"]),
        workload_size=None if size is None else WorkloadSize(size),
        workload_type=data.get("workload_type", "CPU"),
        scale_to_zero_enabled=data.get("scale_to_zero_enabled", False),
        min_provisioned_concurrency=data.get("min_provisioned_concurrency"),
        max_provisioned_concurrency=data.get("max_provisioned_concurrency"),
        environment_vars=_pairs(data.get("environment_vars", ())),
        alias=data.get("alias", ""),
        echoed=_pairs(data.get("echoed", ())),
    )


def _limits(limits: tuple[RateLimit, ...]) -> list[list[object]]:
    return [[limit.calls, limit.key.value, limit.principal] for limit in limits]


def _read_limits(limits: Any) -> tuple[RateLimit, ...]:
    return tuple(RateLimit(calls, LimitKey(key), principal) for calls, key, principal in limits)


def _pairs(pairs: Any) -> tuple[tuple[str, str], ...]:
    return tuple((first, second) for first, second in pairs)
