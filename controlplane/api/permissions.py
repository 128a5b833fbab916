"""Who may do what with an endpoint: look, replace, add. Found by the endpoint's id, as the clients do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flask import Blueprint, Response, request

from controlplane.api.access import endpoint_of
from controlplane.api.answer import answer
from controlplane.api.body import json_body
from controlplane.api.changes import await_delivery, change
from controlplane.api.deps import Deps
from controlplane.domain import ADMINS, Endpoint, Grant, Permission, PrincipalKind, Problem, ProblemCode, ProblemError
from controlplane.rollout import lifecycle
from controlplane.schema import parse_grants

PATH = "/api/2.0/permissions/serving-endpoints/<endpoint_id>"
_LEVELS = {
    Permission.CAN_VIEW: "Can view the endpoint, its configuration and its metrics",
    Permission.CAN_QUERY: "Can query the endpoint",
    Permission.CAN_MANAGE: "Can update and delete the endpoint, read its logs, and change these permissions",
}


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("permissions", __name__, url_prefix=PATH)

    @calls.get("/permissionLevels")
    def levels(endpoint_id: str) -> Response:
        _find(deps, endpoint_id)
        known = [{"permission_level": level.value, "description": text} for level, text in _LEVELS.items()]
        return answer({"permission_levels": known})

    @calls.get("")
    def get(endpoint_id: str) -> Response:
        return _shown(_find(deps, endpoint_id))

    @calls.put("")
    def replace_all(endpoint_id: str) -> Response:
        return put(endpoint_id, keep=False)

    @calls.patch("")
    def add(endpoint_id: str) -> Response:
        return put(endpoint_id, keep=True)

    def put(endpoint_id: str, *, keep: bool) -> Response:
        endpoint = _find(deps, endpoint_id)
        asked = parse_grants(json_body(request))
        now_ms = deps.clock.now_ms()

        def granted(present: Endpoint) -> Endpoint:
            before = present.grants if keep else ()
            return lifecycle.amend(replace(present, grants=_merged(before, asked)), now_ms)

        endpoint = change(deps, endpoint, granted)
        await_delivery(deps, endpoint, "change of permissions")
        return _shown(endpoint)

    return calls


def _find(deps: Deps, endpoint_id: str) -> Endpoint:
    endpoint = endpoint_of(deps, {"endpoint_id": endpoint_id})
    if endpoint is None:
        message = f"There is no serving endpoint with the id {endpoint_id}."
        raise ProblemError(Problem("", ProblemCode.RESOURCE_DOES_NOT_EXIST, message))
    return endpoint


def _merged(before: Iterable[Grant], asked: Iterable[Grant]) -> tuple[Grant, ...]:
    """One grant for each principal, the one asked for last."""
    return tuple({(grant.kind, grant.name): grant for grant in (*before, *asked)}.values())


def _shown(endpoint: Endpoint) -> Response:
    owner = PrincipalKind.USER, endpoint.creator
    admins = PrincipalKind.GROUP, ADMINS
    levels: dict[tuple[PrincipalKind, str], list[dict[str, object]]] = {owner: [_level(Permission.CAN_MANAGE)]}
    for grant in endpoint.grants:
        if (grant.kind, grant.name) != owner:
            levels[grant.kind, grant.name] = [_level(grant.permission)]
    inherited = {**_level(Permission.CAN_MANAGE), "inherited": True, "inherited_from_object": ["/serving-endpoints/"]}
    levels.setdefault(admins, []).append(inherited)
    return answer(
        {
            "object_id": f"/serving-endpoints/{endpoint.id}",
            "object_type": "serving-endpoint",
            "access_control_list": [
                {
                    kind.value: name,
                    **({} if kind is PrincipalKind.GROUP else {"display_name": name}),
                    "all_permissions": mine,
                }
                for (kind, name), mine in levels.items()
            ],
        }
    )


def _level(permission: Permission) -> dict[str, object]:
    return {"permission_level": permission.value, "inherited": False}
