"""Bodies of create and update, in either spelling, as domain values with the defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain import EntitySpec, Tag, TrafficRoute
from controlplane.schema import rules
from controlplane.schema.entities import parse_entity
from controlplane.schema.fields import Fields, Findings
from controlplane.schema.text import JsonObject
from controlplane.schema.traffic import parse_traffic

#: Kept and given back; nothing on one's own machine corresponds to them (yet).
KEPT_ENDPOINT_FIELDS = ("ai_gateway", "budget_policy_id", "email_notifications", "rate_limits", "telemetry_config")
KEPT_CONFIG_FIELDS = ("auto_capture_config",)


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """A config that keeps all rules which need no look at the registry."""

    entities: tuple[EntitySpec, ...]
    traffic: tuple[TrafficRoute, ...]
    #: Where each entity stands in the body, for problems that are found later.
    paths: tuple[str, ...]
    #: As `EndpointConfig.echoed`.
    echoed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """An endpoint that is to be made; without a config it serves nothing yet."""

    name: str
    config: ConfigRequest | None
    description: str = ""
    tags: tuple[Tag, ...] = ()
    route_optimized: bool = False
    echoed: tuple[tuple[str, str], ...] = ()


def parse_create(body: JsonObject) -> CreateRequest:
    """The endpoint that a create body asks for; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    fields = Fields(body, "", findings)
    request = CreateRequest(
        name=_name(fields, findings),
        config=_optional_config(fields, findings),
        description=_description(fields, findings),
        tags=_tags(fields, findings),
        route_optimized=fields.flag("route_optimized") or False,
        echoed=fields.kept(*KEPT_ENDPOINT_FIELDS),
    )
    findings.raise_any()
    return request


def parse_config(body: JsonObject) -> ConfigRequest:
    """The config that an update body asks for; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    config = _config(Fields(body, "", findings), findings)
    findings.raise_any()
    return config


def _name(fields: Fields, findings: Findings) -> str:
    name = fields.text("name")
    if name is None:
        fields.required("name")
        return ""
    findings.extend(rules.name_alphabet("name", name))
    findings.extend(rules.name_not_reserved("name", name))
    return name


def _description(fields: Fields, findings: Findings) -> str:
    description = fields.text("description") or ""
    findings.extend(rules.description_length("description", description))
    return description


def _tags(fields: Fields, findings: Findings) -> tuple[Tag, ...]:
    tags: dict[str, Tag] = {}  # of two with the same key the last one counts
    for item in fields.objects("tags") or ():
        if item is not None:
            key = item.text("key")
            item.required("key")
            findings.extend(rules.tag_has_key(item.at("key"), key) if key is not None else ())
            tags[key or ""] = Tag(key or "", item.text("value") or "")
    return tuple(tags.values())


def _optional_config(fields: Fields, findings: Findings) -> ConfigRequest | None:
    """A create body's config; one with nothing in it (SDKs send their empty defaults) is none."""
    config = fields.object("config")
    if config is None:
        return None
    empty = not (config.raw("served_entities") or config.raw("served_models") or config.raw("traffic_config"))
    return None if empty else _config(config, findings)


def _config(fields: Fields, findings: Findings) -> ConfigRequest:
    spelling = "served_entities"
    if fields.raw("served_models"):
        spelling = "served_models"
        if fields.raw("served_entities"):
            findings.add(fields.at(spelling), "cannot stand beside served_entities; send one of the two")
    items = fields.objects(spelling)
    if items is not None or not fields.has(spelling):
        findings.extend(rules.entity_count(fields.at(spelling), len(items or ())))
    found = [(item.path, parse_entity(item, findings)) for item in items or () if item is not None]
    entities = [(path, spec) for path, spec in found if spec is not None]
    findings.extend(rules.entity_names_unique([(path, spec.name) for path, spec in entities]))
    all_read = len(entities) == len(items or ())
    return ConfigRequest(
        entities=tuple(spec for _, spec in entities),
        traffic=parse_traffic(fields, [spec.name for _, spec in entities] if all_read else [], findings),
        paths=tuple(path for path, _ in entities),
        echoed=fields.kept(*KEPT_CONFIG_FIELDS),
    )
