"""An endpoint's config: replace it, go back, call an update off, stop and start, and look back at all there were."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request

from controlplane.api import artifacts
from controlplane.api.answer import answer
from controlplane.api.body import json_body, optional_json_body
from controlplane.api.caller import caller
from controlplane.api.changes import await_delivery, change, find
from controlplane.api.deps import Deps
from controlplane.api.details import details
from controlplane.api.endpoints import PATH
from controlplane.api.secrets import secret_problems
from controlplane.api.trial import is_trial, trial
from controlplane.domain import Endpoint, EndpointConfig, PastConfig, Problem, ProblemCode, ProblemError, UpdateState
from controlplane.rollout import lifecycle
from controlplane.schema import config_version, examine_config, parse_config, parse_rollback


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("config", __name__, url_prefix=f"{PATH}/<name>")

    def changed(name: str, transition: Callable[[Endpoint, int], Endpoint]) -> Response:
        now_ms = deps.clock.now_ms()
        return details(deps, change(deps, find(deps, name), lambda present: transition(present, now_ms)))

    @calls.put("/config")
    def update(name: str) -> Response:
        endpoint = find(deps, name)
        if is_trial(request):
            return _tried(deps, endpoint)
        asked = parse_config(json_body(request))
        known = artifacts.resolve(asked, deps, endpoint)
        creator = caller(request)
        return changed(
            name,
            lambda present, now_ms: lifecycle.begin_update(
                present,
                known.entities,
                asked.traffic,
                known.artifacts,
                creator=creator,
                now_ms=now_ms,
                echoed=asked.echoed,
            ),
        )

    @calls.get("/config-versions")
    def versions(name: str) -> Response:
        endpoint = find(deps, name)
        return answer({"config_versions": [config_version(past) for past in deps.store.history(endpoint.id)]})

    @calls.post("/config:rollback")
    def rollback(name: str) -> Response:
        endpoint = find(deps, name)
        version = parse_rollback(optional_json_body(request))
        config = _earlier(endpoint, deps.store.history(endpoint.id), version)
        creator = caller(request)
        problems = [
            problem
            for number, entity in enumerate(config.entities)
            for problem in secret_problems(deps, f"served_entities[{number}]", entity.spec, endpoint)
        ]
        if is_trial(request):
            now_ms = deps.clock.now_ms()
            return trial(
                endpoint, lambda: lifecycle.begin_again(endpoint, config, creator=creator, now_ms=now_ms), problems
            )
        if problems:
            raise ProblemError(problems)
        return changed(
            name, lambda present, now_ms: lifecycle.begin_again(present, config, creator=creator, now_ms=now_ms)
        )

    @calls.post("/config:cancel")
    def cancel(name: str) -> Response:
        return changed(name, lifecycle.cancel)

    @calls.post("/config:stop")
    def stop(name: str) -> Response:
        now_ms = deps.clock.now_ms()
        stopped = change(deps, find(deps, name), lambda present: lifecycle.stop(present, now_ms))
        await_delivery(deps, stopped, "stop")
        return details(deps, stopped)

    @calls.post("/config:start")
    def start(name: str) -> Response:
        creator = caller(request)
        return changed(name, lambda present, now_ms: lifecycle.start(present, creator=creator, now_ms=now_ms))

    return calls


def _tried(deps: Deps, endpoint: Endpoint) -> Response:
    asked, problems = examine_config(json_body(request))
    known, more = artifacts.examine(asked, deps, endpoint, problems)
    return trial(
        endpoint,
        lambda: lifecycle.begin_update(
            endpoint,
            known.entities,
            asked.traffic,
            known.artifacts,
            creator=caller(request),
            now_ms=deps.clock.now_ms(),
            echoed=asked.echoed,
        ),
        [*problems, *more],
    )


def _earlier(endpoint: Endpoint, history: list[PastConfig], version: int | None) -> EndpointConfig:
    """The config to go back to: the one of that version, else the last one that served before the present one."""
    present = endpoint.active.version if endpoint.active is not None else 0
    if version is not None:
        found = next((past.config for past in history if past.config.version == version), None)
        words = f"Endpoint {endpoint.name} never had a config version {version}."
    else:
        served = [past for past in history if past.result is UpdateState.NOT_UPDATING]
        found = next((past.config for past in reversed(served) if past.config.version < present), None)
        words = f"Endpoint {endpoint.name} has no earlier config version that has served; name one with config_version."
    if found is None:
        raise ProblemError(Problem("", ProblemCode.RESOURCE_DOES_NOT_EXIST, words))
    return found
