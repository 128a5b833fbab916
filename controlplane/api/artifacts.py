"""Where the models of a config are, and which version an alias stands for, asking the registry only for what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controlplane.api.deps import Deps
from controlplane.api.secrets import secret_problems
from controlplane.domain import Endpoint, EntitySpec, Problem, ProblemError
from controlplane.registry import ModelRegistry
from controlplane.schema import ConfigRequest

#: (registered model, version) → artifact URI
Artifacts = dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Resolved:
    """The entities of a config, each with a version, and where their models are."""

    entities: tuple[EntitySpec, ...]
    artifacts: Artifacts


def resolve(config: ConfigRequest, deps: Deps, endpoint: Endpoint | None = None) -> Resolved:
    """The entities of `config` with aliases looked up, and the artifact URIs of all its models.

    What `endpoint` serves already is taken from there: versions do not change, so new weights for served models need
    no registry, not even a running one. Raises ProblemError with everything that the registry does not have, and with
    every secret that is not there or that the caller may not read.
    """
    resolved, problems = examine(config, deps, endpoint)
    if problems:
        raise ProblemError(problems)
    return resolved


def examine(
    config: ConfigRequest, deps: Deps, endpoint: Endpoint | None = None, wrong: Sequence[Problem] = ()
) -> tuple[Resolved, tuple[Problem, ...]]:
    """As `resolve`, with the problems beside what could be resolved; entities that are `wrong` already are left out."""
    artifacts = _served(endpoint)
    problems: list[Problem] = []
    entities: list[EntitySpec] = []
    for path, spec in zip(config.paths, config.entities, strict=True):
        if any(problem.path.startswith(path) for problem in wrong):
            continue
        asked = spec
        try:
            asked = _resolved(spec, deps.registry, artifacts)
            entities.append(asked)
        except ProblemError as refusal:
            problems.extend(replace(problem, path=path) for problem in refusal.problems)
        problems.extend(secret_problems(deps, path, asked, endpoint))
    return Resolved(tuple(entities), artifacts), tuple(problems)


def _resolved(spec: EntitySpec, registry: ModelRegistry, artifacts: Artifacts) -> EntitySpec:
    if not spec.entity_version:
        spec = replace(spec, entity_version=registry.version_of(spec.entity_name, spec.alias))
    model = spec.entity_name, spec.entity_version
    if model not in artifacts:
        artifacts[model] = registry.resolve(*model)
    return spec


def _served(endpoint: Endpoint | None) -> Artifacts:
    if endpoint is None or endpoint.active is None:
        return {}
    return {
        (entity.spec.entity_name, entity.spec.entity_version): entity.artifact_uri
        for entity in endpoint.active.entities
    }
