"""An endpoint's config: replace it, and look back at all there were."""

from __future__ import annotations

from flask import Blueprint, Response, request

from controlplane.api import artifacts
from controlplane.api.answer import answer
from controlplane.api.body import json_body
from controlplane.api.caller import caller
from controlplane.api.changes import change, find
from controlplane.api.deps import Deps
from controlplane.api.endpoints import PATH
from controlplane.domain import Endpoint
from controlplane.rollout import lifecycle
from controlplane.schema import config_version, endpoint_details, parse_config


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("config", __name__, url_prefix=f"{PATH}/<name>")

    @calls.put("/config")
    def update(name: str) -> Response:
        endpoint = find(deps, name)
        asked = parse_config(json_body(request))
        known = artifacts.resolve(asked, deps.registry, endpoint)
        creator = caller(request)
        now_ms = deps.clock.now_ms()

        def begin(present: Endpoint) -> Endpoint:
            return lifecycle.begin_update(
                present,
                known.entities,
                asked.traffic,
                known.artifacts,
                creator=creator,
                now_ms=now_ms,
                echoed=asked.echoed,
            )

        endpoint = change(deps, endpoint, begin)
        return answer(endpoint_details(endpoint, deps.replicas_of(endpoint.id)))

    @calls.get("/config-versions")
    def versions(name: str) -> Response:
        endpoint = find(deps, name)
        return answer({"config_versions": [config_version(past) for past in deps.store.history(endpoint.id)]})

    return calls
