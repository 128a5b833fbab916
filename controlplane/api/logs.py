"""What the replicas of a served entity have printed, and how their environment was built; also after they are gone."""

from __future__ import annotations

from flask import Blueprint, Response, request

from controlplane.api.answer import answer
from controlplane.api.changes import find
from controlplane.api.deps import Deps
from controlplane.api.endpoints import PATH
from controlplane.domain import Endpoint, EndpointConfig, Problem, ProblemCode, ProblemError, ServedEntity
from controlplane.rollout.state import deployment, replica_id
from controlplane.schema import parse_version

#: Lines of each replica: "most recent lines", in the words of the original.
LINES = 1000
#: Of how many replicas that are gone the lines are looked for.
MOST_REPLICAS = 16

NOTHING_BUILT = "Nothing was built: the model runs in the Python environment that Wye is installed in."


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("logs", __name__, url_prefix=f"{PATH}/<name>/served-models/<served>")

    @calls.get("/logs")
    def logs(name: str, served: str) -> Response:
        endpoint = find(deps, name)
        config, entity = _asked_for(deps, endpoint, served)
        return answer({"logs": _logs(deps, endpoint, config, entity)})

    @calls.get("/build-logs")
    def build_logs(name: str, served: str) -> Response:
        endpoint = find(deps, name)
        _, entity = _asked_for(deps, endpoint, served)
        return answer({"logs": deps.build_log(entity.artifact_uri) or NOTHING_BUILT})

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


def _logs(deps: Deps, endpoint: Endpoint, config: EndpointConfig, entity: ServedEntity) -> str:
    where = deployment(endpoint.id, entity)
    _, most = entity.spec.concurrency
    # No entity ever had more replicas than units; those that are gone have left their lines.
    ids = {replica_id(where, slot) for slot in range(min(MOST_REPLICAS, most))}
    ids |= {replica.id for replica in deps.replicas_of(endpoint.id) if replica.deployment == where}
    kept = deps.store.kept_log(endpoint.id, config.version, entity.name)
    try:
        printed = [prefixed(each, deps.logs(each, LINES)) for each in sorted(ids)]
    except ProblemError:
        if kept is None:
            raise
        return kept
    return "\n".join(filter(None, printed)) or kept or ""


def prefixed(replica: str, text: str) -> str:
    """Each line after the id of the replica that printed it."""
    return "\n".join(f"[{replica}] {line}" for line in text.splitlines())
