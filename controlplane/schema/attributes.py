"""What an endpoint has besides its configs (tags, notifications, telemetry): bodies as values, defaults filled in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.domain import Tag
from controlplane.schema import rules
from controlplane.schema.fields import Fields, Findings
from controlplane.schema.text import JsonObject

#: As `Endpoint.echoed`.
Echoed = tuple[tuple[str, str], ...]

_TELEMETRY_FEATURES = ("LOGS", "TRACES", "METRICS", "INFERENCE_TABLE")
_TELEMETRY_TABLES = ("logs_table", "traces_table", "metrics_table", "annotations_table")


@dataclass(frozen=True, slots=True)
class TagsPatch:
    """Tags to add and keys to delete."""

    add: tuple[Tag, ...]
    delete: tuple[str, ...]

    def applied(self, tags: Iterable[Tag]) -> tuple[Tag, ...]:
        """The tags after the patch: first all additions, then all deletions."""
        result = {tag.key: tag for tag in (*tags, *self.add)}
        return tuple(tag for key, tag in result.items() if key not in self.delete)


def parse_tags_patch(body: JsonObject) -> TagsPatch:
    """The change that a tags body asks for; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    fields = Fields(body, "", findings)
    patch = TagsPatch(read_tags(fields, findings, "add_tags"), fields.texts("delete_tags"))
    findings.raise_any()
    return patch


def parse_notifications(body: JsonObject) -> Echoed:
    """The settings that a notifications body asks for; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    kept = read_notifications(Fields(body, "", findings))
    findings.raise_any()
    return kept


def parse_telemetry(body: JsonObject) -> Echoed:
    """The settings that a telemetry body asks for; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    kept = read_telemetry(Fields(body, "", findings), findings)
    findings.raise_any()
    return kept


def read_tags(fields: Fields, findings: Findings, key: str = "tags") -> tuple[Tag, ...]:
    """A field that is a list of tags; of two with the same key the last one counts."""
    tags: dict[str, Tag] = {}
    for item in fields.objects(key) or ():
        if item is not None:
            name = item.text("key")
            item.required("key")
            findings.extend(rules.tag_has_key(item.at("key"), name) if name is not None else ())
            tags[name or ""] = Tag(name or "", item.text("value") or "")
    return tuple(tags.values())


def read_notifications(fields: Fields) -> Echoed:
    """The field `email_notifications` of a body."""
    notifications = fields.object("email_notifications")
    if notifications is None:
        return ()
    notifications.texts("on_update_success")
    notifications.texts("on_update_failure")
    return fields.kept("email_notifications") if notifications.any() else ()


def read_telemetry(fields: Fields, findings: Findings) -> Echoed:
    """The field `telemetry_config` of a body."""
    telemetry = fields.object("telemetry_config")
    if telemetry is None:
        return ()
    telemetry.text("telemetry_profile_id")
    tables = telemetry.object("table_names")
    if tables is not None:
        for key in _TELEMETRY_TABLES:
            tables.text(key)
    inference = telemetry.object("inference_table_config")
    if inference is not None:
        inference.text("name")
        part = inference.number("sampling_fraction")
        findings.extend(rules.fraction(inference.at("sampling_fraction"), part) if part is not None else ())
    known = [f"TELEMETRY_FEATURE_{feature}" for feature in _TELEMETRY_FEATURES]
    for feature in telemetry.texts("enabled_telemetry_features"):
        findings.extend(rules.one_of(telemetry.at("enabled_telemetry_features"), feature, known))
    return fields.kept("telemetry_config") if telemetry.any() else ()
