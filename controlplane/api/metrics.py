"""Metrics, of one endpoint and of the fleet, for Prometheus and everything that reads what Prometheus reads."""

from __future__ import annotations

from flask import Blueprint, Response

from controlplane.api.caller import current, permission
from controlplane.api.changes import find
from controlplane.api.deps import Deps
from controlplane.api.endpoints import PATH
from controlplane.domain import Permission
from controlplane.schema.exposition import CONTENT_TYPE
from controlplane.schema.fleet_metrics import fleet_text
from controlplane.schema.metrics import prometheus_text


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("metrics", __name__, url_prefix=f"{PATH}/<name>")

    @calls.get("/metrics")
    def metrics(name: str) -> Response:
        endpoint = find(deps, name)
        measured = deps.measurements(endpoint, deps.replicas_of(endpoint.id))
        return Response(prometheus_text(name, measured), content_type=CONTENT_TYPE)

    return calls


def fleet(deps: Deps) -> Blueprint:
    """The call for all endpoints at once; to others than admins and monitors it tells of those they may view."""
    calls = Blueprint("fleet-metrics", __name__, url_prefix="/api/2.0/wye")

    @calls.get("/metrics")
    def metrics() -> Response:
        everything = current().reads_all_metrics
        endpoints = [
            endpoint
            for endpoint in deps.endpoints.cell.snapshot().values()
            if everything or ((mine := permission(endpoint)) is not None and mine.includes(Permission.CAN_VIEW))
        ]
        return Response(fleet_text(endpoints, deps.fleet(), everything=everything), content_type=CONTENT_TYPE)

    return calls
