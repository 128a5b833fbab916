"""An endpoint's metrics, for Prometheus and everything that reads what Prometheus reads."""

from __future__ import annotations

from flask import Blueprint, Response

from controlplane.api.changes import find
from controlplane.api.deps import Deps
from controlplane.api.endpoints import PATH
from controlplane.schema.metrics import prometheus_text


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("metrics", __name__, url_prefix=f"{PATH}/<name>")

    @calls.get("/metrics")
    def metrics(name: str) -> Response:
        endpoint = find(deps, name)
        measured = deps.measurements(endpoint, deps.replicas_of(endpoint.id))
        return Response(prometheus_text(name, measured), content_type="text/plain; version=0.0.4; charset=utf-8")

    return calls
