"""Endpoints as the clients read them: both spellings, submitted values given back, numbers as numbers.

Go clients decode strictly and Terraform compares what it sent with what it reads, so nothing here may be rounded,
reordered or left out for looks (serving-api.md, sections 1.5, 1.6 and the drift rules of 4).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable

from controlplane.domain import Endpoint, EndpointConfig, PastConfig, Permission, Replica, ServedEntity
from controlplane.schema.status import EntityStatus, active_status, is_ready, pending_status
from controlplane.schema.text import JsonObject

#: Kept fields that stand at the endpoint's top level. Rate limits of their own are never given back, as in the original.
_ECHOED_SUMMARY = ("ai_gateway", "budget_policy_id", "telemetry_config", "usage_policy_id")
_ECHOED_DETAILS = (*_ECHOED_SUMMARY, "email_notifications")
_ECHOED_CONFIG = ("auto_capture_config",)
_ECHOED_ENTITY = ("instance_profile_arn",)


def endpoint_details(
    endpoint: Endpoint, replicas: Iterable[Replica], permission: Permission = Permission.CAN_MANAGE
) -> JsonObject:
    """One endpoint in full, as create, get and update answer it; `replicas` are those of this endpoint."""
    replicas = tuple(replicas)
    answer = _head(endpoint, replicas)
    if endpoint.active is not None:
        answer["config"] = _config(endpoint.active, lambda entity: active_status(endpoint, entity, replicas))
    if endpoint.pending is not None:
        answer["pending_config"] = {
            "start_time": endpoint.pending.started_ms,
            **_config(endpoint.pending, lambda entity: pending_status(endpoint, entity, replicas)),
        }
    return {
        **answer,
        **_echoed(endpoint.echoed, _ECHOED_DETAILS),
        "permission_level": permission.value,
        "route_optimized": endpoint.route_optimized,
    }


def endpoint_summary(endpoint: Endpoint, replicas: Iterable[Replica]) -> JsonObject:
    """One endpoint as an element of the list."""
    answer = _head(endpoint, replicas)
    if endpoint.active is not None:
        entities = endpoint.active.entities
        answer["config"] = {
            "served_entities": [_identity(entity, "entity") for entity in entities],
            "served_models": [_identity(entity, "model") for entity in entities],
        }
    return {**answer, **_echoed(endpoint.echoed, _ECHOED_SUMMARY)}


def config_version(past: PastConfig) -> JsonObject:
    """One config version of the history: what was asked for, and how its update ended."""
    config = past.config
    ended = {} if past.ended_ms is None else {"end_time": past.ended_ms}
    return {
        "config_version": config.version,
        "start_time": config.started_ms,
        **ended,
        "creator": config.creator,
        "state": {"config_update": past.result.value},
        "served_entities": [_entity(entity, "entity", None) for entity in config.entities],
        "served_models": [_entity(entity, "model", None) for entity in config.entities],
        "traffic_config": _traffic(config),
        **_echoed(config.echoed, _ECHOED_CONFIG),
    }


def tag_list(endpoint: Endpoint) -> list[JsonObject]:
    """The endpoint's tags."""
    return [{"key": tag.key, "value": tag.value} for tag in endpoint.tags]


def rate_limits(endpoint: Endpoint) -> list[JsonObject]:
    """The endpoint's rate limits of the deprecated call."""
    return [
        {
            "calls": limit.calls,
            "key": limit.key.value,
            **({"principal": limit.principal} if limit.principal else {}),
            "renewal_period": "minute",
        }
        for limit in endpoint.rate_limits
    ]


def endpoint_attributes(endpoint: Endpoint) -> JsonObject:
    """What an endpoint has besides its configs, as a create request would give it."""
    return {
        "description": endpoint.description,
        "tags": tag_list(endpoint),
        "route_optimized": endpoint.route_optimized,
        "rate_limits": rate_limits(endpoint),
        **{field: json.loads(text) for field, text in endpoint.echoed},
    }


def entity_request(entity: ServedEntity) -> JsonObject:
    """A served entity as a request would give it."""
    answer = _entity(entity, "entity", None)
    return {key: value for key, value in answer.items() if key not in {"creator", "creation_timestamp"}}


def _head(endpoint: Endpoint, replicas: Iterable[Replica]) -> JsonObject:
    return {
        "name": endpoint.name,
        "id": endpoint.id,
        "creator": endpoint.creator,
        "creation_timestamp": endpoint.created_ms,
        "last_updated_timestamp": endpoint.updated_ms,
        "state": {
            "ready": "READY" if is_ready(endpoint, replicas) else "NOT_READY",
            "config_update": endpoint.update.value,
            "suspend": "STOPPED" if endpoint.suspended else "NOT_SUSPENDED",
        },
        "tags": tag_list(endpoint),
        "description": endpoint.description,
    }


def _config(config: EndpointConfig, status: Callable[[ServedEntity], EntityStatus]) -> JsonObject:
    entities = [(entity, status(entity)) for entity in config.entities]
    return {
        "config_version": config.version,
        "served_entities": [_entity(entity, "entity", said) for entity, said in entities],
        "served_models": [_entity(entity, "model", said) for entity, said in entities],
        "traffic_config": _traffic(config),
        **_echoed(config.echoed, _ECHOED_CONFIG),
    }


def _identity(entity: ServedEntity, spelling: str) -> JsonObject:
    return {
        "name": entity.name,
        f"{spelling}_name": entity.spec.entity_name,
        f"{spelling}_version": entity.spec.entity_version,
        **({f"{spelling}_version_alias": entity.spec.alias} if entity.spec.alias else {}),
    }


def _entity(entity: ServedEntity, spelling: str, status: EntityStatus | None) -> JsonObject:
    spec = entity.spec
    answer = _identity(entity, spelling)
    if spec.workload_size is not None:
        answer["workload_size"] = spec.workload_size.value
    answer["workload_type"] = spec.workload_type
    answer["scale_to_zero_enabled"] = spec.scale_to_zero_enabled
    if spec.min_provisioned_concurrency is not None:
        answer["min_provisioned_concurrency"] = spec.min_provisioned_concurrency
    if spec.max_provisioned_concurrency is not None:
        answer["max_provisioned_concurrency"] = spec.max_provisioned_concurrency
    if spec.environment_vars:
        answer["environment_vars"] = dict(spec.environment_vars)
    answer.update(_echoed(spec.echoed, _ECHOED_ENTITY))
    answer["creator"] = entity.creator
    answer["creation_timestamp"] = entity.created_ms
    if status is not None:
        answer["state"] = {"deployment": status.state.value, "deployment_state_message": status.message}
    return answer


def _traffic(config: EndpointConfig) -> JsonObject:
    return {
        "routes": [
            {
                "served_model_name": route.served_entity,
                "served_entity_name": route.served_entity,
                "traffic_percentage": route.percent,
            }
            for route in config.traffic
        ]
    }


def _echoed(kept: tuple[tuple[str, str], ...], shown: tuple[str, ...]) -> JsonObject:
    values = {field: json.loads(text) for field, text in kept if field in shown}
    telemetry = values.get("telemetry_config")
    if telemetry is not None and telemetry.pop("table_names", None):
        # Table names are written and not read, in the original; what is read is the id of the profile made from them.
        tables = next(text for field, text in kept if field == "telemetry_config")
        telemetry.setdefault("telemetry_profile_id", hashlib.blake2b(tables.encode(), digest_size=16).hexdigest())
    return values
