"""One served entity of a body, in either spelling, as an EntitySpec."""

from __future__ import annotations

import re
from dataclasses import dataclass

from controlplane.domain import EntitySpec, ProblemCode, WorkloadSize
from controlplane.schema import rules
from controlplane.schema.fields import Fields, Findings

#: Kept and given back where the original does; there are no instance profiles and no bursts here.
KEPT_ENTITY_FIELDS = ("burst_scaling_enabled", "instance_profile_arn")

_THROUGHPUT = ("provisioned_model_units", "min_provisioned_throughput", "max_provisioned_throughput")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_NUMBER = re.compile(r"[+-]?[0-9.]*")
#: As MLflow writes a registered model in one word: `models:/churn/3`, `models:/churn@champion`.
_MODEL_URI = re.compile(r"models:/+(?P<model>[^/@]+)(?:/(?P<version>[^/@]+)|(?P<alias>@[^/@]+))?")


@dataclass(frozen=True, slots=True)
class _Registered:
    """A registered model; one of version and alias is "", both when neither can be read."""

    model: str | None
    version: str = ""
    alias: str = ""


def parse_entity(fields: Fields, findings: Findings) -> EntitySpec | None:
    """The served entity, or None when it cannot even be named; what is wrong with it is among the findings."""
    if not _served_here(fields, findings):
        return None
    registered = _registered(fields, findings)
    name = _name(fields, findings, registered)
    size, least, most = _resources(fields, findings)
    workload_type = _workload_type(fields, findings)
    scale_to_zero = fields.flag("scale_to_zero_enabled") or False
    environment = _environment(fields, findings)
    if name is None:
        return None
    return EntitySpec(
        name=name,
        entity_name=registered.model or "",
        entity_version=registered.version,
        workload_size=size,
        workload_type=workload_type,
        scale_to_zero_enabled=scale_to_zero,
        min_provisioned_concurrency=least,
        max_provisioned_concurrency=most,
        environment_vars=environment,
        alias=registered.alias,
        echoed=fields.kept(*KEPT_ENTITY_FIELDS),
    )


def default_name(model: str, version: str) -> str:
    """The name of a served entity that was given none: its model's, without catalog and schema, and version or alias."""
    parts = model.split(".")
    own = parts[-1] if len(parts) == 3 else model
    return f"{_NOT_A_NAME.sub('-', own)}-{version}"


def _served_here(fields: Fields, findings: Findings) -> bool:
    """False, with a finding, for kinds of served entities that only the hosted service has."""
    if fields.raw("external_model"):
        findings.add(
            fields.at("external_model"),
            "is not supported: Wye serves models from your MLflow registry, not those of other providers",
            ProblemCode.NOT_IMPLEMENTED,
        )
        return False
    for key in _THROUGHPUT:
        if fields.raw(key) not in (None, 0, "0"):
            findings.add(
                fields.at(key),
                "is not supported: there is no provisioned throughput here; give workload_size instead",
                ProblemCode.NOT_IMPLEMENTED,
            )
            return False
    return True


def _registered(fields: Fields, findings: Findings) -> _Registered:
    """The registered model and its version, or the alias that the version is to be looked up by."""
    keys = ("entity_name", "model_name")
    model = fields.text(*keys)
    _required(fields, keys)
    path = fields.at(fields.spelled(*keys))
    in_uri = ""
    if model is not None and model.startswith("models:/"):
        uri = _MODEL_URI.fullmatch(model)
        if uri is None:
            findings.add(path, f"{model[:80]!r} is not the URI of a registered model; write models:/name@alias")
            return _Registered(None)
        model, in_uri = uri["model"], uri["version"] or uri["alias"] or ""
    if model is not None:
        findings.extend(rules.model_name(path, model))
    return _version(fields, findings, model, in_uri)


def _version(fields: Fields, findings: Findings, model: str | None, in_uri: str) -> _Registered:
    keys = ("entity_version", "model_version")
    given = fields.text_or_number(*keys)
    path = fields.at(fields.spelled(*keys))
    if in_uri and given is not None and given.removeprefix("@") != in_uri.removeprefix("@"):
        findings.add(path, f"says something else than the model's URI, which says {in_uri[:80]!r}; send one of the two")
        return _Registered(model)
    if in_uri and given is None:
        given, path = in_uri, fields.at(fields.spelled("entity_name", "model_name"))
    if given is None:
        _required(fields, keys)
        return _Registered(model)
    before = len(findings)
    if _NUMBER.fullmatch(given):
        findings.extend(rules.version_number(path, given))
        # What an answer tells of an alias comes back when its config is sent again, and is kept.
        alias = fields.text("entity_version_alias", "model_version_alias") or ""
        findings.extend(rules.alias(fields.at("entity_version_alias"), f"@{alias}") if alias else ())
        return _Registered(model, given, alias) if len(findings) == before else _Registered(model)
    findings.extend(rules.alias(path, given))
    return _Registered(model, alias=given.removeprefix("@")) if len(findings) == before else _Registered(model)


def _required(fields: Fields, keys: tuple[str, str]) -> None:
    """In served_models a missing field is named by the old spelling, which is the one its author knows."""
    fields.required(*(reversed(keys) if "served_models" in fields.path else keys))


def _name(fields: Fields, findings: Findings, registered: _Registered) -> str | None:
    name = fields.text("name")
    if not name:
        version = registered.version or registered.alias
        if not registered.model or not version or (fields.has("name") and name is None):
            return None
        name = default_name(registered.model, version)
    findings.extend(rules.name_alphabet(fields.at("name"), name))
    return name


def _resources(fields: Fields, findings: Findings) -> tuple[WorkloadSize | None, int | None, int | None]:
    """Size, least and most concurrency: Small unless the request says otherwise."""
    size = fields.text("workload_size") or None
    least = fields.integer("min_provisioned_concurrency")
    most = fields.integer("max_provisioned_concurrency")
    findings.extend(rules.size_or_concurrency(fields.at("workload_size"), size, least, most))
    findings.extend(rules.concurrency_range(fields.path, least, most))
    if size is not None:
        findings.extend(rules.workload_size(fields.at("workload_size"), size))
    if least is not None or most is not None:
        return None, least, most
    return next((known for known in WorkloadSize if known.value == size), WorkloadSize.SMALL), None, None


def _workload_type(fields: Fields, findings: Findings) -> str:
    workload = fields.text("workload_type") or "CPU"
    findings.extend(rules.workload_type(fields.at("workload_type"), workload))
    return workload


def _environment(fields: Fields, findings: Findings) -> tuple[tuple[str, str], ...]:
    pairs = fields.strings("environment_vars")
    path = fields.at("environment_vars")
    findings.extend(rules.environment_count(path, len(pairs)))
    for name, value in pairs:
        findings.extend(rules.environment_variable(path, name, value))
    return pairs
