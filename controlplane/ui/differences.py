"""What differs between two configs, line by line, as people would tell it. Values in, values out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
#: What the server adds, and what only repeats something else.
_NOT_ASKED_FOR = {"name", "state", "creator", "creation_timestamp"}
_WORDS = {"entity_name": "model", "entity_version": "version", "entity_version_alias": "alias"}


@dataclass(frozen=True, slots=True)
class Line:
    """One value before and after; "" where there is none."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one served entity."""

    name: str
    #: added, removed, changed or same
    kind: str
    lines: tuple[Line, ...]


def changes(before: Json | None, after: Json) -> tuple[Change, ...]:
    """What becomes of each served entity from one config version to another, both as the API shows them."""
    old, new = _entities(before or {}), _entities(after)
    found = []
    for name in [*new, *(name for name in old if name not in new)]:
        lines = _lines(old.get(name, {}), new.get(name, {}))
        kind = "added" if name not in old else "removed" if name not in new else "changed" if lines else "same"
        found.append(Change(name, kind, lines))
    return tuple(found)


def word(field: str) -> str:
    """What people call a field of a served entity."""
    return _WORDS.get(field) or field.replace("_", " ")


def _entities(config: Json) -> dict[str, Json]:
    percents = {
        route["served_model_name"]: f"{route['traffic_percentage']} %"
        for route in config.get("traffic_config", {}).get("routes", ())
    }
    return {
        entity["name"]: {"traffic": percents.get(entity["name"], "0 %"), **entity}
        for entity in config.get("served_entities", ())
    }


def _lines(before: Json, after: Json) -> tuple[Line, ...]:
    fields = [field for field in (before | after) if field not in _NOT_ASKED_FOR]
    return tuple(
        Line(word(field), _text(before.get(field)), _text(after.get(field)))
        for field in fields
        if before.get(field) != after.get(field)
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
