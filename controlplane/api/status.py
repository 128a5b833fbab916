"""The control plane about itself, for operators and for whoever starts it."""

from __future__ import annotations

from flask import Blueprint, Response

from controlplane.api.answer import answer
from controlplane.api.deps import Deps


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("status", __name__, url_prefix="/api/2.0/wye")

    @calls.get("/health")
    def health() -> Response:
        return answer({"status": "ok"})

    @calls.get("/status")
    def status() -> Response:
        return answer(deps.status())

    return calls
