"""What an endpoint has besides its configs: tags, rate limits, AI gateway, notifications, telemetry.

All of it applies without a new config version, and while an update is in progress (telemetry apart). A change of limits is
answered when every Envoy counts by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from flask import Blueprint, Response, request

from controlplane.api.answer import answer
from controlplane.api.body import json_body
from controlplane.api.changes import await_delivery, change, find
from controlplane.api.deps import Deps
from controlplane.api.details import details
from controlplane.api.endpoints import PATH, echo
from controlplane.domain import Endpoint, Problem, ProblemCode, ProblemError
from controlplane.rollout import lifecycle
from controlplane.schema import (
    parse_ai_gateway,
    parse_notifications,
    parse_rate_limits,
    parse_tags_patch,
    parse_telemetry,
    rate_limits,
    tag_list,
)


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("attributes", __name__, url_prefix=f"{PATH}/<name>")

    def amended(name: str, edit: Callable[[Endpoint], Endpoint]) -> Endpoint:
        now_ms = deps.clock.now_ms()
        return change(deps, find(deps, name), lambda present: lifecycle.amend(edit(present), now_ms))

    @calls.patch("/tags")
    def tags(name: str) -> Response:
        find(deps, name)
        patch = parse_tags_patch(json_body(request))
        endpoint = amended(name, lambda present: replace(present, tags=patch.applied(present.tags)))
        return answer({"tags": tag_list(endpoint)})

    @calls.put("/rate-limits")
    def limits(name: str) -> Response:
        find(deps, name)
        asked = parse_rate_limits(json_body(request))
        endpoint = amended(name, lambda present: replace(present, rate_limits=asked))
        await_delivery(deps, endpoint, "change of limits")
        return answer({"rate_limits": rate_limits(endpoint)})

    @calls.put("/ai-gateway")
    def ai_gateway(name: str) -> Response:
        find(deps, name)
        asked = parse_ai_gateway(json_body(request))
        endpoint = amended(
            name,
            lambda present: replace(
                present, gateway_limits=asked.limits, echoed=echo(present.echoed, ["ai_gateway"], asked.echoed)
            ),
        )
        await_delivery(deps, endpoint, "change of limits")
        return answer(_echoed(endpoint, "ai_gateway"))

    @calls.patch("/notifications")
    def notifications(name: str) -> Response:
        find(deps, name)
        asked = parse_notifications(json_body(request))
        endpoint = amended(
            name, lambda present: replace(present, echoed=echo(present.echoed, ["email_notifications"], asked))
        )
        return answer({"name": endpoint.name, "email_notifications": _echoed(endpoint, "email_notifications")})

    @calls.patch("/telemetry-config")
    def telemetry(name: str) -> Response:
        find(deps, name)
        asked = parse_telemetry(json_body(request))

        def edit(present: Endpoint) -> Endpoint:
            lifecycle.refuse_while_updating(present)
            if asked and present.active is None:
                message = f"Endpoint {name} has no telemetry that could be configured: it serves no model."
                raise ProblemError(Problem("", ProblemCode.INVALID_PARAMETER_VALUE, message))
            return replace(present, echoed=echo(present.echoed, ["telemetry_config"], asked))

        return details(deps, amended(name, edit))

    return calls


def _echoed(endpoint: Endpoint, field: str) -> dict[str, object]:
    value: dict[str, object] = json.loads(dict(endpoint.echoed).get(field, "{}"))
    return value
