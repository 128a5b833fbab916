"""What is answered besides predictions."""

from __future__ import annotations

from model_worker.service import Reply, Service, problem
from model_worker.usage import Usage

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


def reply(method: bytes, path: str, service: Service, usage: Usage) -> Reply:
    """The reply to a request that is not for a prediction."""
    if path == "/invocations":
        return _only("POST")
    if path not in {"/ping", "/health", "/version", "/metrics"}:
        return problem(404, "NOT_FOUND", f"there is nothing at {path}")
    if method not in {b"GET", b"HEAD"}:
        return _only("GET")
    if path == "/version":
        return Reply(200, service.version.encode(), _TEXT)
    if path == "/metrics":
        return Reply(200, (service.metrics.text() + usage.text()).encode(), _METRICS)
    return Reply(200, b"\n")


def _only(method: str) -> Reply:
    refusal = problem(405, "BAD_REQUEST", f"only {method} is answered here")
    refusal.allow = method
    return refusal
