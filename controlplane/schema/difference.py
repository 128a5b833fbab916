"""What a change would do to an endpoint, told without doing it: the answer of a dry run."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.domain import Endpoint, EndpointConfig, Problem, ServedEntity
from controlplane.schema.render import endpoint_attributes, entity_request
from controlplane.schema.text import JsonObject


def dry_run(before: Endpoint | None, after: Endpoint | None, problems: Iterable[Problem]) -> JsonObject:
    """The answer for a change from `before` (None: there is no such endpoint) to `after` (None: it would be refused)."""
    told = [
        {"field": problem.path, "error_code": problem.code.code, "message": problem.message} for problem in problems
    ]
    answer: JsonObject = {"dry_run": True, "accepted": after is not None, "problems": told}
    if after is None:
        return answer
    answer["action"] = "create" if before is None else "none" if after == before else "update"
    config = (
        after.pending if after.pending is not None and (before is None or after.pending != before.pending) else None
    )
    if config is not None:
        running = before.active if before is not None else None
        answer["config_version"] = config.version
        answer["served_entities"] = _entities(running, config, stopped=before is not None and before.suspended)
        answer["routes"] = _routes(running, config)
    old = {} if before is None else endpoint_attributes(before)
    new = endpoint_attributes(after)
    answer["fields"] = [
        {"field": field, "before": old.get(field), "after": new.get(field)}
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    ]
    return answer


def _entities(before: EndpointConfig | None, after: EndpointConfig, *, stopped: bool) -> list[JsonObject]:
    """Per served entity what becomes of its replicas: start, restart, keep or stop."""
    lines: list[JsonObject] = []
    for entity in after.entities:
        present = before.entity(entity.name) if before is not None else None
        kept = entity.generation != after.version
        action = "keep" if kept else "start" if present is None or stopped else "restart"
        lines.append({"name": entity.name, "replicas": action, "fields": _fields(present, entity)})
    names = {entity.name for entity in after.entities}
    gone = [entity for entity in before.entities if entity.name not in names] if before is not None else []
    return lines + [{"name": entity.name, "replicas": "stop", "fields": _fields(entity, None)} for entity in gone]


def _fields(before: ServedEntity | None, after: ServedEntity | None) -> list[JsonObject]:
    old = {} if before is None else entity_request(before)
    new = {} if after is None else entity_request(after)
    return [
        {"field": field, "before": old.get(field), "after": new.get(field)}
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    ]


def _routes(before: EndpointConfig | None, after: EndpointConfig) -> list[JsonObject]:
    old = {route.served_entity: route.percent for route in before.traffic} if before is not None else {}
    new = {route.served_entity: route.percent for route in after.traffic}
    return [
        {"served_model_name": name, "before": old.get(name), "after": new.get(name)}
        for name in [*new, *(name for name in old if name not in new)]
        if old.get(name) != new.get(name)
    ]
