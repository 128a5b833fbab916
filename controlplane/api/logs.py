"""What the replicas of a served entity have printed, and how their environment was built; also after they are gone."""

from __future__ import annotations

from flask import Blueprint, Response, request

from controlplane.api.answer import answer
from controlplane.api.changes import find
from controlplane.api.deps import Deps
from controlplane.api.endpoints import PATH
from controlplane.domain import Endpoint, EndpointConfig, Problem, ProblemCode, ProblemError, ServedEntity
from controlplane.domain.measurement import LogKind
from controlplane.rollout.printed import joined, replica_ids
from controlplane.schema import parse_version

#: Lines of each replica: "most recent lines", in the words of the original.
LINES = 1000


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("logs", __name__, url_prefix=f"{PATH}/<name>/served-models/<served>")

    @calls.get("/logs")
    def logs(name: str, served: str) -> Response:
        endpoint = find(deps, name)
        return answer({"logs": _printed(deps, endpoint, *_asked_for(deps, endpoint, served), LogKind.OUTPUT)})

    @calls.get("/build-logs")
    def build_logs(name: str, served: str) -> Response:
        endpoint = find(deps, name)
        return answer({"logs": _printed(deps, endpoint, *_asked_for(deps, endpoint, served), LogKind.BUILD)})

    return calls


def _asked_for(deps: Deps, endpoint: Endpoint, served: str) -> tuple[EndpointConfig, ServedEntity]:
    """The entity in the config version that the query names, else in the latest one that has it."""
    version = parse_version(request.args.get("config_version"))
    configs = [config for config in (endpoint.pending, endpoint.active) if config is not None]
    found = _find(configs, served, version)
    if found is None:
        earlier = [past.config for past in reversed(deps.store.history(endpoint.id))]
        found = _find(earlier, served, version)
    if found is None:
        within = f" in config version {version}" if version is not None else ""
        message = f"Endpoint {endpoint.name} has no served model named {served}{within}."
        raise ProblemError(Problem("", ProblemCode.RESOURCE_DOES_NOT_EXIST, message))
    return found


def _find(
    configs: list[EndpointConfig], served: str, version: int | None
) -> tuple[EndpointConfig, ServedEntity] | None:
    for config in configs:
        entity = config.entity(served) if version in {None, config.version} else None
        if entity is not None:
            return config, entity
    return None


def _printed(deps: Deps, endpoint: Endpoint, config: EndpointConfig, entity: ServedEntity, kind: LogKind) -> str:
    """The lines as they are at the runtime; as they were kept, where the runtime has none or does not answer."""
    # Of the active config nothing is kept: it has not failed, and its logs can be had without the database.
    kept = (
        deps.store.kept_log(endpoint.id, config.version, entity.name, kind) if config is not endpoint.active else None
    )
    ids = replica_ids(endpoint.id, entity, deps.replicas_of(endpoint.id))
    try:
        return joined([(each, deps.logs(each, LINES, kind)) for each in ids]) or kept or ""
    except ProblemError:
        if kept is None:
            raise
        return kept
