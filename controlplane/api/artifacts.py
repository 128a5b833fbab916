"""Where the models of a config are, asking the registry only for those that are new."""

from __future__ import annotations

from dataclasses import replace

from controlplane.domain import Endpoint, Problem, ProblemError
from controlplane.registry import ModelRegistry
from controlplane.schema import ConfigRequest

#: (registered model, version) → artifact URI
Artifacts = dict[tuple[str, str], str]


def resolve(config: ConfigRequest, registry: ModelRegistry, endpoint: Endpoint | None = None) -> Artifacts:
    """The artifact URIs of all models of `config`.

    What `endpoint` serves already is taken from there: versions do not change, so new weights for served models need
    no registry, not even a running one. Raises ProblemError with everything that the registry does not have.
    """
    artifacts = _served(endpoint)
    problems: list[Problem] = []
    for path, spec in zip(config.paths, config.entities, strict=True):
        model = spec.entity_name, spec.entity_version
        if model in artifacts:
            continue
        try:
            artifacts[model] = registry.resolve(*model)
        except ProblemError as refusal:
            problems.extend(replace(problem, path=path) for problem in refusal.problems)
    if problems:
        raise ProblemError(problems)
    return artifacts


def _served(endpoint: Endpoint | None) -> Artifacts:
    if endpoint is None or endpoint.active is None:
        return {}
    return {
        (entity.spec.entity_name, entity.spec.entity_version): entity.artifact_uri
        for entity in endpoint.active.entities
    }
