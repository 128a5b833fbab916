"""One served entity of a body, in either spelling, as an EntitySpec."""

from __future__ import annotations

import re

from controlplane.domain import EntitySpec, ProblemCode, WorkloadSize
from controlplane.schema import rules
from controlplane.schema.fields import Fields, Findings

#: Kept and given back where the original does; there are no instance profiles and no bursts here.
KEPT_ENTITY_FIELDS = ("burst_scaling_enabled", "instance_profile_arn")

_THROUGHPUT = ("provisioned_model_units", "min_provisioned_throughput", "max_provisioned_throughput")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def parse_entity(fields: Fields, findings: Findings) -> EntitySpec | None:
    """The served entity, or None when it cannot even be named; what is wrong with it is among the findings."""
    if not _served_here(fields, findings):
        return None
    model = _model(fields, findings)
    version = _version(fields, findings)
    name = _name(fields, findings, model, version)
    size, least, most = _resources(fields, findings)
    workload_type = _workload_type(fields, findings)
    scale_to_zero = fields.flag("scale_to_zero_enabled") or False
    environment = _environment(fields, findings)
    if name is None:
        return None
    return EntitySpec(
        name=name,
        entity_name=model or "",
        entity_version=version or "",
        workload_size=size,
        workload_type=workload_type,
        scale_to_zero_enabled=scale_to_zero,
        min_provisioned_concurrency=least,
        max_provisioned_concurrency=most,
        environment_vars=environment,
        echoed=fields.kept(*KEPT_ENTITY_FIELDS),
    )


def default_name(model: str, version: str) -> str:
    """The name of a served entity that was given none: the model's own, without catalog and schema, and the version."""
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


def _model(fields: Fields, findings: Findings) -> str | None:
    keys = ("entity_name", "model_name")
    model = fields.text(*keys)
    _required(fields, keys)
    if model is not None:
        findings.extend(rules.model_name(fields.at(fields.spelled(*keys)), model))
    return model


def _version(fields: Fields, findings: Findings) -> str | None:
    keys = ("entity_version", "model_version")
    version = fields.text_or_number(*keys)
    _required(fields, keys)
    if version is not None:
        findings.extend(rules.version_number(fields.at(fields.spelled(*keys)), version))
    return version


def _required(fields: Fields, keys: tuple[str, str]) -> None:
    """In served_models a missing field is named by the old spelling, which is the one its author knows."""
    fields.required(*(reversed(keys) if "served_models" in fields.path else keys))


def _name(fields: Fields, findings: Findings, model: str | None, version: str | None) -> str | None:
    name = fields.text("name")
    if not name:
        if model is None or version is None or (fields.has("name") and name is None):
            return None
        name = default_name(model, version)
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
