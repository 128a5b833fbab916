"""Who may do what with an endpoint."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from controlplane.ui.backend import Api, Json, endpoint_path
from controlplane.ui.deps import PageDeps

_KINDS = {"user_name": "User", "group_name": "Group", "service_principal_name": "Service principal"}


def blueprint(_deps: PageDeps, api: Api) -> Blueprint:
    """The list, and adding to it and taking from it."""
    pages = Blueprint("permissions", __name__, url_prefix="/ui/endpoints/<name>/permissions")

    @pages.get("/")
    def show(name: str) -> str:
        details = api.get(endpoint_path(name))
        path = _path(details)
        return render_template(
            "permissions.html",
            endpoint=details,
            lines=[line for item in api.get(path)["access_control_list"] for line in _lines(item)],
            levels=api.get(f"{path}/permissionLevels")["permission_levels"],
            kinds=_KINDS,
            may_manage=details["permission_level"] == "CAN_MANAGE",
            tab="permissions",
        )

    @pages.post("/add")
    def add(name: str) -> Response:
        given = request.form
        kind = given.get("kind", "")
        grant = {
            kind if kind in _KINDS else "user_name": given.get("principal", "").strip(),
            "permission_level": given.get("level", ""),
        }
        api.call("PATCH", _path(api.get(endpoint_path(name))), {"access_control_list": [grant]})
        return redirect(f"/ui/endpoints/{name}/permissions/", 303)

    @pages.post("/remove")
    def remove(name: str) -> Response:
        path = _path(api.get(endpoint_path(name)))
        lines = [line for item in api.get(path)["access_control_list"] for line in _lines(item)]
        gone = request.form.get("kind", ""), request.form.get("principal", "")
        kept = [
            {line["kind"]: line["principal"], "permission_level": line["level"]}
            for line in lines
            if not line["inherited"] and (line["kind"], line["principal"]) != gone
        ]
        api.call("PUT", path, {"access_control_list": kept})
        return redirect(f"/ui/endpoints/{name}/permissions/", 303)

    return pages


def _path(details: Json) -> str:
    return f"/api/2.0/permissions/serving-endpoints/{details['id']}"


def _lines(item: Json) -> list[Json]:
    """One principal's permissions, a line each."""
    kind = next(kind for kind in _KINDS if kind in item)
    return [
        {
            "kind": kind,
            "principal": item[kind],
            "level": each["permission_level"],
            "inherited": each.get("inherited", False),
        }
        for each in item["all_permissions"]
    ]
