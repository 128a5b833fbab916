"""Every config an endpoint ever had, what differs between two of them, and the way back."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from controlplane.ui.backend import Api, Json, endpoint_path
from controlplane.ui.deps import PageDeps
from controlplane.ui.differences import changes


def blueprint(_deps: PageDeps, api: Api) -> Blueprint:
    """The history and the button."""
    pages = Blueprint("history", __name__, url_prefix="/ui/endpoints/<name>/history")

    @pages.get("/")
    def show(name: str) -> str:
        details = api.get(endpoint_path(name))
        versions: list[Json] = list(reversed(api.get(endpoint_path(name, "config-versions"))["config_versions"]))
        numbers = [version["config_version"] for version in versions]
        after = _number("to", numbers[0] if numbers else 0)
        before = _number("from", next((number for number in numbers if number < after), 0))
        by_number = {version["config_version"]: version for version in versions}
        return render_template(
            "history.html",
            endpoint=details,
            versions=versions,
            active=details.get("config", {}).get("config_version"),
            before=before,
            after=after,
            changes=changes(by_number.get(before), by_number[after]) if after in by_number else (),
            may_manage=details["permission_level"] == "CAN_MANAGE",
            updating=details["state"]["config_update"] == "IN_PROGRESS",
            tab="history",
        )

    @pages.post("/rollback")
    def rollback(name: str) -> Response:
        version = request.form.get("version", "")
        body = {"config_version": int(version)} if version.isdecimal() and len(version) < 10 else {}
        api.call("POST", endpoint_path(name, "config:rollback"), body)
        return redirect(f"/ui/endpoints/{name}/", 303)

    return pages


def _number(key: str, otherwise: int) -> int:
    given = request.args.get(key, "")
    return int(given) if given.isdecimal() and len(given) < 10 else otherwise
