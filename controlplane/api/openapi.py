"""What may be sent to an endpoint's models, as OpenAPI; and the description of this API itself."""

from __future__ import annotations

from flask import Blueprint, Response, request

from controlplane.api.answer import answer
from controlplane.api.changes import find
from controlplane.api.deps import Deps
from controlplane.api.endpoints import PATH
from controlplane.domain import Problem, ProblemCode, ProblemError
from controlplane.schema.openapi import endpoint_openapi


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("openapi", __name__, url_prefix=f"{PATH}/<name>")

    @calls.get("/openapi")
    def openapi(name: str) -> Response:
        endpoint = find(deps, name)
        config = endpoint.active
        if config is None or endpoint.suspended:
            state = "is stopped" if endpoint.suspended else "has no config that is ready"
            raise _refusal(f"Endpoint {name} {state}, so there is nothing to describe.")
        models = {entity.name: deps.registry.describe(entity.artifact_uri) for entity in config.entities}
        if not any(model.inputs or model.example for model in models.values()):
            raise _refusal(
                f"No model of endpoint {name} has a signature; log it with signature=… or input_example=… to describe it."
            )
        return answer(endpoint_openapi(name, config, models, request.host_url.rstrip("/")))

    return calls


def _refusal(message: str) -> ProblemError:
    return ProblemError(Problem("", ProblemCode.BAD_REQUEST, message))
