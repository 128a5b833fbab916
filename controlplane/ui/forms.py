"""The configuration form: an endpoint's config as rows of fields, and rows as the body that the API takes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
SIZES = ("Small", "Medium", "Large")
#: As many served entities as a config may have; further rows of a form are not read.
MOST_ROWS = 30
#: Browsers send line ends of both kinds.
_LINE_END = re.compile(r"\r?\n|\r")


@dataclass(frozen=True, slots=True)
class Entity:
    """One served entity as the form shows it; every field is what was typed."""

    #: Tells the row's fields from those of others; means nothing else.
    row: str
    name: str = ""
    model: str = ""
    #: `3`, `@champion` (to be looked up anew), or `3@champion` (what it was when it was looked up).
    version: str = ""
    #: One of SIZES, or "" for a range of its own.
    size: str = "Small"
    least: str = ""
    most: str = ""
    to_zero: bool = False
    #: `NAME=value`, one a line, in quotes what would not come back from a line as it is.
    environment: str = ""
    percent: str = "0"


@dataclass(frozen=True, slots=True)
class Form:
    """The whole form."""

    entities: tuple[Entity, ...]
    name: str = ""
    description: str = ""
    #: `key=value`, one a line.
    tags: str = ""


def read(given: Mapping[str, str], rows: Sequence[str]) -> Form:
    """The form as it was sent; `rows` are the rows' marks in their order."""
    entities = tuple(
        Entity(
            row=row,
            name=given.get(f"{row}.name", "").strip(),
            model=given.get(f"{row}.model", "").strip(),
            version=given.get(f"{row}.version", "").strip(),
            size=given.get(f"{row}.size", "Small"),
            least=given.get(f"{row}.least", "").strip(),
            most=given.get(f"{row}.most", "").strip(),
            to_zero=f"{row}.to_zero" in given,
            environment=given.get(f"{row}.environment", ""),
            percent=given.get(f"{row}.percent", "0").strip(),
        )
        for row in rows[:MOST_ROWS]
    )
    return Form(entities, given.get("name", "").strip(), given.get("description", ""), given.get("tags", ""))


def shown(config: Json | None) -> tuple[Entity, ...]:
    """A config, as the API shows it, as rows."""
    if config is None:
        return ()
    percents = {r["served_model_name"]: r["traffic_percentage"] for r in config["traffic_config"]["routes"]}
    return tuple(
        Entity(
            row=f"e{number}",
            name=entity["name"],
            model=entity["entity_name"],
            version=f"{entity['entity_version']}{_at(entity.get('entity_version_alias', ''))}",
            size=entity.get("workload_size", ""),
            least=str(entity.get("min_provisioned_concurrency", "")),
            most=str(entity.get("max_provisioned_concurrency", "")),
            to_zero=entity["scale_to_zero_enabled"],
            environment=_lines(entity.get("environment_vars", {})),
            percent=str(percents.get(entity["name"], 0)),
        )
        for number, entity in enumerate(config["served_entities"])
    )


def config_body(form: Form, present: Json | None) -> Json:
    """The config that the form asks for. What it has no field for is taken from the entity of the same name."""
    known = {entity["name"]: entity for entity in (present or {}).get("served_entities", ())}
    entities = [_entity_body(entity, known.get(entity.name, {})) for entity in form.entities]
    routes = [
        {"served_model_name": body.get("name") or "", "traffic_percentage": _number(entity.percent)}
        for entity, body in zip(form.entities, entities, strict=True)
    ]
    kept = {key: value for key, value in (present or {}).items() if key == "auto_capture_config"}
    return {**kept, "served_entities": entities, "traffic_config": {"routes": routes}}


def create_body(form: Form) -> Json:
    """The endpoint that the form asks for."""
    body: Json = {"name": form.name, "config": config_body(form, None)}
    if form.description.strip():
        body["description"] = form.description.strip()
    if form.tags.strip():
        body["tags"] = [{"key": key, "value": value.strip()} for key, value in _pairs(form.tags)]
    return body


def _entity_body(entity: Entity, known: Json) -> Json:
    version, _, alias = entity.version.partition("@")
    body: Json = {
        key: known[key] for key in ("workload_type", "instance_profile_arn", "burst_scaling_enabled") if key in known
    }
    body["name"] = entity.name or _default_name(entity.model, version or alias)
    body["entity_name"] = entity.model
    body["entity_version"] = version or f"@{alias}"
    if version and alias:
        body["entity_version_alias"] = alias
    if entity.size in SIZES:
        body["workload_size"] = entity.size
    else:
        ends = {"min_provisioned_concurrency": entity.least, "max_provisioned_concurrency": entity.most}
        body |= {key: _number(end) for key, end in ends.items() if end}
    body["scale_to_zero_enabled"] = entity.to_zero
    if entity.environment.strip():
        body["environment_vars"] = {_unquoted(key): _unquoted(value) for key, value in _pairs(entity.environment)}
    return body


def _default_name(model: str, version: str) -> str:
    """A name for an entity that was given none: routes need one. What is not allowed in it is told by the API."""
    return "-".join(part for part in (model.replace(" ", "-"), version) if part)[:63]


def _lines(environment: Mapping[str, str]) -> str:
    return "\n".join(f"{_quoted(key)}={_quoted(value)}" for key, value in environment.items())


def _pairs(text: str) -> list[tuple[str, str]]:
    """`key=value` lines; a line without a sign is a key without a value."""
    parts = [line.partition("=") for line in _LINE_END.split(text) if line.strip()]
    return [(key.strip(), value) for key, _, value in parts]


def _quoted(text: str) -> str:
    """The text, as a JSON string if it would not stay in its line, would not be seen whole, or looks like one."""
    plain = text.isprintable() and text == text.strip() and not text.startswith('"')
    return text if plain else json.dumps(text)


def _unquoted(text: str) -> str:
    """What `_quoted` was given; what only begins like a JSON string is what was meant."""
    try:
        return str(json.loads(text)) if text.startswith('"') else text
    except ValueError:
        return text


def _number(text: str) -> int | str:
    """The number that was typed, or what was typed instead, for the API to refuse in its own words."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _at(alias: str) -> str:
    return f"@{alias}" if alias else ""
