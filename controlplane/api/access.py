"""Whether the caller may make the call in hand: the only place that decides it, before any view runs.

What is not listed needs an admin, so that a new call is closed until somebody opens it.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, request

from controlplane.api.caller import current, permission
from controlplane.api.deps import Deps
from controlplane.domain import MONITORS, Endpoint, Permission, Problem, ProblemCode, ProblemError

#: Anybody with a token may make these, and gets to see and change only what is theirs.
FOR_ALL = frozenset(
    {
        ("GET", "/api/2.0/serving-endpoints"),
        ("POST", "/api/2.0/serving-endpoints"),
        ("POST", "/api/2.0/serving-endpoints/pt"),
        ("GET", "/api/2.0/wye/health"),
        ("GET", "/api/2.0/wye/metrics"),
        ("GET", "/api/2.0/wye/models"),
        ("GET", "/api/2.0/wye/model-versions"),
        ("GET", "/api/2.0/preview/scim/v2/Me"),
        ("POST", "/api/2.0/token/create"),
        ("GET", "/api/2.0/token/list"),
        ("POST", "/api/2.0/token/delete"),
    }
)
#: … and this is all that a monitor may make, who is let in for the metrics.
FOR_MONITORS = frozenset({("GET", "/api/2.0/wye/health"), ("GET", "/api/2.0/wye/metrics")})
#: Scopes have access lists of their own, which the calls themselves heed.
SECRETS = "/api/2.0/secrets/"
#: Reading calls of an endpoint that may show what it was asked.
TELLING = ("/logs", "/build-logs")


def install(app: Flask, deps: Deps) -> None:
    """Refuse what the caller may not do, with PERMISSION_DENIED."""

    @app.before_request
    def _check() -> None:
        rule = request.url_rule
        if rule is None or current().is_admin:
            return  # a path that leads nowhere is told so
        path = rule.rule.rstrip("/")
        if current().only_monitors and (request.method, path) not in FOR_MONITORS:
            raise refusal(f"A token of the group {MONITORS} alone may GET /api/2.0/wye/metrics and nothing else.")
        if (request.method, path) in FOR_ALL or path.startswith(SECRETS):
            return
        arguments = request.view_args or {}
        if not arguments.keys() & {"name", "endpoint_id"}:
            raise refusal(f"Only members of the group admins may {request.method} {request.path}.")
        endpoint = endpoint_of(deps, arguments)
        if endpoint is not None:  # else the call says that it is not there
            require(endpoint, needed(request.method, path))


def needed(method: str, path: str) -> Permission:
    """What a call of one endpoint takes."""
    reading = method in {"GET", "HEAD"} and not path.endswith(TELLING)
    return Permission.CAN_VIEW if reading else Permission.CAN_MANAGE


def require(endpoint: Endpoint, least: Permission) -> None:
    """Raise ProblemError unless the caller has this permission on the endpoint."""
    mine = permission(endpoint)
    if mine is None or not mine.includes(least):
        raise refusal(
            f"User {current().user} does not have {least.value} on endpoint {endpoint.name}; whoever manages it can grant it."
        )


def endpoint_of(deps: Deps, arguments: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that a path names, by name or by id."""
    if "name" in arguments:
        return deps.endpoints.get(arguments["name"])
    return next((e for e in deps.endpoints.cell.snapshot().values() if e.id == arguments["endpoint_id"]), None)


def refusal(message: str) -> ProblemError:
    """The caller may not do this."""
    return ProblemError(Problem("", ProblemCode.PERMISSION_DENIED, message))
