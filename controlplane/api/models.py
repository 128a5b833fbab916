"""What the registry has to choose from: the names of its models, and a model's versions with their aliases."""

from __future__ import annotations

from flask import Blueprint, Response, request

from controlplane.api.answer import answer
from controlplane.api.deps import Deps
from controlplane.domain import Problem, ProblemCode, ProblemError


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("models", __name__, url_prefix="/api/2.0/wye")

    @calls.get("/models")
    def models() -> Response:
        return answer({"models": list(deps.registry.models(request.args.get("name_contains", "")))})

    @calls.get("/model-versions")
    def versions() -> Response:
        name = request.args.get("name", "")
        if not name:
            raise ProblemError(Problem("name", ProblemCode.INVALID_PARAMETER_VALUE, "is missing; name the model"))
        found = deps.registry.versions(name)
        return answer(
            {
                "model_versions": [
                    {"version": each.version, "aliases": list(each.aliases), "status": each.status} for each in found
                ]
            }
        )

    return calls
