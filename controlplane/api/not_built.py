"""Calls of the original that have no meaning on machines of one's own: each is refused with one sentence."""

from __future__ import annotations

from flask import Blueprint, Response

from controlplane.api.deps import Deps
from controlplane.api.endpoints import PATH
from controlplane.api.errors import error
from controlplane.domain import ProblemCode

THROUGHPUT = "Provisioned throughput is not available: Wye serves models of your own; create a serving endpoint with workload_size."
CONNECTIONS = "External functions are not available: Wye has no Unity Catalog connections to call them through."


def blueprint(_deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("not_built", __name__)

    @calls.post(f"{PATH}/pt")
    def create() -> Response:
        return error(ProblemCode.NOT_IMPLEMENTED, THROUGHPUT)

    @calls.put(f"{PATH}/pt/<name>/config")
    def update(name: str) -> Response:  # noqa: ARG001 - the path has it
        return error(ProblemCode.NOT_IMPLEMENTED, THROUGHPUT)

    @calls.post("/api/2.0/external-function")
    def external() -> Response:
        return error(ProblemCode.NOT_IMPLEMENTED, CONNECTIONS)

    return calls
