"""An endpoint's description and tags, and its end."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from controlplane.ui.backend import Api, ApiError, endpoint_path
from controlplane.ui.deps import PageDeps


def blueprint(_deps: PageDeps, api: Api) -> Blueprint:
    """The page and its forms."""
    pages = Blueprint("settings", __name__, url_prefix="/ui/endpoints/<name>/settings")

    @pages.get("/")
    def show(name: str) -> str:
        details = api.get(endpoint_path(name))
        may_manage = details["permission_level"] == "CAN_MANAGE"
        return render_template("settings.html", endpoint=details, may_manage=may_manage, tab="settings")

    @pages.post("/description")
    def describe(name: str) -> Response:
        api.get(endpoint_path(name))  # PUT would create an endpoint that is not there any more
        api.call("PUT", endpoint_path(name), {"description": request.form.get("description", "").strip()})
        return _back(name)

    @pages.post("/tags/add")
    def add_tag(name: str) -> Response:
        tag = {"key": request.form.get("key", "").strip(), "value": request.form.get("value", "").strip()}
        api.call("PATCH", endpoint_path(name, "tags"), {"add_tags": [tag]})
        return _back(name)

    @pages.post("/tags/remove")
    def remove_tag(name: str) -> Response:
        api.call("PATCH", endpoint_path(name, "tags"), {"delete_tags": [request.form.get("key", "")]})
        return _back(name)

    @pages.post("/delete")
    def delete(name: str) -> Response:
        if request.form.get("confirmed", "").strip() != name:
            raise ApiError(400, "BAD_REQUEST", f"Type the name {name} to delete the endpoint; nothing was deleted.")
        api.call("DELETE", endpoint_path(name))
        return redirect("/ui/endpoints/", 303)

    return pages


def _back(name: str) -> Response:
    return redirect(f"/ui/endpoints/{name}/settings/", 303)
