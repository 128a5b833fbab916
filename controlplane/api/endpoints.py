"""Serving endpoints: create, list, get, delete."""

from __future__ import annotations

from flask import Blueprint, Response, request

from controlplane.api import artifacts
from controlplane.api.answer import answer
from controlplane.api.body import json_body
from controlplane.api.caller import caller
from controlplane.api.changes import find
from controlplane.api.deps import Deps
from controlplane.domain import Endpoint
from controlplane.rollout import lifecycle
from controlplane.schema import CreateRequest, endpoint_details, endpoint_summary, parse_create
from controlplane.store.store import name_taken

PATH = "/api/2.0/serving-endpoints"


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("endpoints", __name__, url_prefix=PATH)

    @calls.post("")
    def create() -> Response:
        endpoint = new_endpoint(deps, parse_create(json_body(request)), caller(request))
        deps.endpoints.insert(endpoint)
        return answer(endpoint_details(endpoint, deps.replicas_of(endpoint.id)))

    @calls.get("")
    def list_all() -> Response:
        present = sorted(deps.endpoints.cell.snapshot().values(), key=lambda endpoint: endpoint.name)
        return answer(
            {"endpoints": [endpoint_summary(endpoint, deps.replicas_of(endpoint.id)) for endpoint in present]}
        )

    @calls.get("/<name>")
    def get(name: str) -> Response:
        endpoint = find(deps, name)
        return answer(endpoint_details(endpoint, deps.replicas_of(endpoint.id)))

    @calls.delete("/<name>")
    def delete(name: str) -> Response:
        deps.endpoints.delete(find(deps, name))
        return answer({})  # MLflow's client cannot read an empty body

    return calls


def new_endpoint(deps: Deps, asked: CreateRequest, creator: str) -> Endpoint:
    """The endpoint that was asked for, its config pending from its first moment; raises ProblemError."""
    if deps.endpoints.get(asked.name) is not None:
        raise name_taken(asked.name)
    now_ms = deps.clock.now_ms()
    endpoint = lifecycle.create(
        endpoint_id=deps.new_id(),
        name=asked.name,
        creator=creator,
        now_ms=now_ms,
        description=asked.description,
        tags=asked.tags,
        route_optimized=asked.route_optimized,
        rate_limits=asked.rate_limits,
        gateway_limits=asked.gateway_limits,
        echoed=asked.echoed,
    )
    if asked.config is None:
        return endpoint
    known = artifacts.resolve(asked.config, deps.registry)
    return lifecycle.begin_update(
        endpoint,
        known.entities,
        asked.config.traffic,
        known.artifacts,
        creator=creator,
        now_ms=now_ms,
        echoed=asked.config.echoed,
    )
