"""Serving endpoints: create, list, get, create or update, delete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flask import Blueprint, Response, request

from controlplane.api import artifacts
from controlplane.api.answer import answer
from controlplane.api.body import json_body
from controlplane.api.caller import caller, permission
from controlplane.api.changes import await_delivery, change, find
from controlplane.api.deps import Deps
from controlplane.api.details import details
from controlplane.api.trial import is_trial, trial
from controlplane.domain import Endpoint, Problem, ProblemCode, ProblemError
from controlplane.rollout import lifecycle
from controlplane.schema import CreateRequest, JsonObject, endpoint_summary, examine_create, is_ready, parse_create
from controlplane.store.store import name_taken

PATH = "/api/2.0/serving-endpoints"


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("endpoints", __name__, url_prefix=PATH)

    @calls.post("")
    def create() -> Response:
        body = json_body(request)
        if is_trial(request):
            return _tried_create(deps, body)
        asked = parse_create(body)
        _refuse_taken(deps, asked.name)
        endpoint = _made(deps, asked, artifacts.resolve(asked.config, deps) if asked.config else None)
        deps.endpoints.insert(endpoint)
        return details(deps, endpoint)

    @calls.get("")
    def list_all() -> Response:
        visible = (endpoint for endpoint in deps.endpoints.cell.snapshot().values() if permission(endpoint))
        present = sorted(visible, key=lambda endpoint: endpoint.name)
        return answer(
            {"endpoints": [endpoint_summary(endpoint, deps.replicas_of(endpoint.id)) for endpoint in present]}
        )

    @calls.get("/<name>")
    def get(name: str) -> Response:
        return details(deps, find(deps, name))

    @calls.get("/<name>/ready")
    def ready(name: str) -> Response:
        endpoint = find(deps, name)
        if not is_ready(endpoint, deps.replicas_of(endpoint.id)):
            message = f"Endpoint {name} is not ready; GET {PATH}/{name} tells why."
            raise ProblemError(Problem("", ProblemCode.BAD_REQUEST, message))
        return answer({"name": name, "ready": True})

    @calls.put("/<name>")
    def put(name: str) -> Response:
        body = json_body(request)
        present = deps.endpoints.get(name)
        if is_trial(request):
            return _tried_create(deps, body, name) if present is None else _tried_update(deps, present, body)
        asked = parse_create(body, name)
        known = artifacts.resolve(asked.config, deps, present) if asked.config else None
        if present is None:
            endpoint = _made(deps, asked, known)
            deps.endpoints.insert(endpoint)
        else:
            creator, now_ms = caller(request), deps.clock.now_ms()
            endpoint = change(
                deps, present, lambda stored: replaced(stored, asked, known, creator=creator, now_ms=now_ms)
            )
            if endpoint.limits != present.limits:
                await_delivery(deps, endpoint, "change of limits")
        return details(deps, endpoint)

    @calls.delete("/<name>")
    def delete(name: str) -> Response:
        deps.endpoints.delete(find(deps, name))
        return answer({})  # MLflow's client cannot read an empty body

    return calls


def replaced(
    present: Endpoint, asked: CreateRequest, known: artifacts.Resolved | None, *, creator: str, now_ms: int
) -> Endpoint:
    """The endpoint with what the request gives in place of what it had; what the request leaves out stays.

    An endpoint that has all of it already is returned as it is. Raises ProblemError when an update is in progress to
    another config, or for what cannot change.
    """
    if "route_optimized" in asked.given and asked.route_optimized != present.route_optimized:
        message = f"is {present.route_optimized} since the endpoint was created, and cannot change"
        raise ProblemError(Problem("route_optimized", ProblemCode.INVALID_PARAMETER_VALUE, message))
    changed = replace(
        present,
        description=asked.description if "description" in asked.given else present.description,
        tags=asked.tags if "tags" in asked.given else present.tags,
        rate_limits=asked.rate_limits if "rate_limits" in asked.given else present.rate_limits,
        gateway_limits=asked.gateway_limits if "ai_gateway" in asked.given else present.gateway_limits,
        echoed=echo(present.echoed, asked.given, asked.echoed),
    )
    config = asked.config
    if config is None or known is None or lifecycle.asks_for(present, known.entities, config.traffic, config.echoed):
        return present if changed == present else lifecycle.amend(changed, now_ms)
    return lifecycle.begin_update(
        changed,
        known.entities,
        config.traffic,
        known.artifacts,
        creator=creator,
        now_ms=now_ms,
        echoed=config.echoed,
    )


def echo(
    present: tuple[tuple[str, str], ...], fields: Iterable[str], asked: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """`Endpoint.echoed` with these fields as they are asked for, or gone, and the others as they were."""
    given = set(fields)
    kept = (line for line in present if line[0] not in given)
    return tuple(sorted((*kept, *(line for line in asked if line[0] in given))))


def _made(deps: Deps, asked: CreateRequest, known: artifacts.Resolved | None) -> Endpoint:
    """The endpoint that was asked for, its config pending from its first moment."""
    now_ms = deps.clock.now_ms()
    endpoint = lifecycle.create(
        endpoint_id=deps.new_id(),
        name=asked.name,
        creator=caller(request),
        now_ms=now_ms,
        description=asked.description,
        tags=asked.tags,
        route_optimized=asked.route_optimized,
        rate_limits=asked.rate_limits,
        gateway_limits=asked.gateway_limits,
        echoed=asked.echoed,
    )
    if asked.config is None or known is None:
        return endpoint
    return lifecycle.begin_update(
        endpoint,
        known.entities,
        asked.config.traffic,
        known.artifacts,
        creator=endpoint.creator,
        now_ms=now_ms,
        echoed=asked.config.echoed,
    )


def _refuse_taken(deps: Deps, name: str) -> None:
    if deps.endpoints.get(name) is not None:
        raise name_taken(name)


def _tried_create(deps: Deps, body: JsonObject, name: str | None = None) -> Response:
    asked, wrong = examine_create(body, name)
    known, problems = None, list(wrong)
    if asked.config is not None:
        known, more = artifacts.examine(asked.config, deps, wrong=wrong)
        problems.extend(more)
    if deps.endpoints.get(asked.name) is not None:
        problems.extend(name_taken(asked.name).problems)
    return trial(None, lambda: _made(deps, asked, known), problems)


def _tried_update(deps: Deps, present: Endpoint, body: JsonObject) -> Response:
    asked, wrong = examine_create(body, present.name)
    known, problems = None, list(wrong)
    if asked.config is not None:
        known, more = artifacts.examine(asked.config, deps, present, wrong)
        problems.extend(more)
    now_ms = deps.clock.now_ms()
    return trial(present, lambda: replaced(present, asked, known, creator=caller(request), now_ms=now_ms), problems)
