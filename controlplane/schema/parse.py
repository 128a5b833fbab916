"""Bodies of create and update, in either spelling, as domain values with the defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from controlplane.domain import EntitySpec, Problem, ProblemError, RateLimit, Tag, TrafficRoute
from controlplane.schema import rules
from controlplane.schema.attributes import read_notifications, read_tags, read_telemetry
from controlplane.schema.entities import parse_entity
from controlplane.schema.fields import Fields, Findings
from controlplane.schema.gateway import OLD_KEYS, read_gateway, read_limits
from controlplane.schema.text import JsonObject
from controlplane.schema.traffic import parse_traffic

T = TypeVar("T")

#: Kept and given back; nothing on one's own machine corresponds to them.
_KEPT_ENDPOINT_FIELDS = ("budget_policy_id", "usage_policy_id")
_KEPT_CONFIG_FIELDS = ("auto_capture_config",)


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
    rate_limits: tuple[RateLimit, ...] = ()
    gateway_limits: tuple[RateLimit, ...] = ()
    echoed: tuple[tuple[str, str], ...] = ()
    #: The fields that the body has, by which a replacement tells what is to stay as it is.
    given: frozenset[str] = field(default=frozenset(), compare=False)


def parse_create(body: JsonObject, name: str | None = None) -> CreateRequest:
    """The endpoint that a create body asks for; raises ProblemError with all that is wrong with it.

    `name` is the endpoint's where the path says it already: the body need not, and must not say another.
    """
    request, problems = examine_create(body, name)
    return _unless(problems, request)


def parse_config(body: JsonObject) -> ConfigRequest:
    """The config that an update body asks for; raises ProblemError with all that is wrong with it."""
    request, problems = examine_config(body)
    return _unless(problems, request)


def examine_create(body: JsonObject, name: str | None = None) -> tuple[CreateRequest, tuple[Problem, ...]]:
    """As `parse_create`, with the problems beside as much of the endpoint as could be read."""
    findings = Findings()
    fields = Fields(body, "", findings)
    gateway = read_gateway(fields, findings)
    request = CreateRequest(
        name=_name(fields, findings, name),
        config=_optional_config(fields, findings),
        description=_description(fields, findings),
        tags=read_tags(fields, findings),
        route_optimized=fields.flag("route_optimized") or False,
        rate_limits=read_limits(fields, findings, OLD_KEYS),
        gateway_limits=gateway.limits,
        echoed=tuple(
            sorted(
                (
                    *gateway.echoed,
                    *read_notifications(fields),
                    *read_telemetry(fields, findings),
                    *_kept(fields, _KEPT_ENDPOINT_FIELDS),
                )
            )
        ),
        given=frozenset(key for key in body if fields.has(key)),
    )
    return request, findings.problems


def examine_config(body: JsonObject) -> tuple[ConfigRequest, tuple[Problem, ...]]:
    """As `parse_config`, with the problems beside as much of the config as could be read."""
    findings = Findings()
    config = _config(Fields(body, "", findings), findings)
    return config, findings.problems


def parse_version(text: str | None) -> int | None:
    """A config version from a query string, None when there is none; raises ProblemError."""
    findings = Findings()
    version = Fields({"config_version": text}, "", findings).integer("config_version")
    findings.raise_any()
    return version


def parse_rollback(body: JsonObject) -> int | None:
    """The config version to go back to, None for the one before; raises ProblemError."""
    findings = Findings()
    version = Fields(body, "", findings).integer("config_version")
    findings.raise_any()
    return version


def _unless(problems: tuple[Problem, ...], request: T) -> T:
    if problems:
        raise ProblemError(problems)
    return request


def _kept(fields: Fields, keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    for key in keys:
        fields.text(key)
    return fields.kept(*keys)


def _name(fields: Fields, findings: Findings, path_name: str | None) -> str:
    name = fields.text("name") if fields.has("name") else path_name
    if name is None:
        fields.required("name")
        return ""
    if path_name is not None and name != path_name:
        findings.add("name", f"is {name[:80]!r}, while the path names {path_name[:80]!r}; an endpoint keeps its name")
    findings.extend(rules.name_alphabet("name", name))
    findings.extend(rules.name_not_reserved("name", name))
    return name


def _description(fields: Fields, findings: Findings) -> str:
    description = fields.text("description") or ""
    findings.extend(rules.description_length("description", description))
    return description


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
        echoed=_capture(fields),
    )


def _capture(fields: Fields) -> tuple[tuple[str, str], ...]:
    """The legacy inference table's settings, kept without being acted upon."""
    capture = fields.object("auto_capture_config")
    if capture is None:
        return ()
    capture.flag("enabled")
    for key in ("catalog_name", "schema_name", "table_name_prefix"):
        capture.text(key)
    return fields.kept(*_KEPT_CONFIG_FIELDS)
