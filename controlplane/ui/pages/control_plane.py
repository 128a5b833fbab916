"""The control plane about itself: Envoys, what each has acknowledged, what it refused; the worker host; versions."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request

from controlplane.ui.backend import Api
from controlplane.ui.deps import PageDeps


def blueprint(_deps: PageDeps, api: Api) -> Blueprint:
    """The page, whole or as the part that changes."""
    pages = Blueprint("control_plane", __name__, url_prefix="/ui/control-plane")

    @pages.get("/")
    def show() -> str:
        status = api.get("/api/2.0/wye/status")
        phases: dict[str, int] = {}
        for replica in status["replicas"]:
            phases[replica["phase"]] = phases.get(replica["phase"], 0) + 1
        template = "control_plane_part.html" if "HX-Request" in request.headers else "control_plane.html"
        return render_template(template, status=status, phases=phases)

    @pages.get("/signed-in")
    def signed_in() -> Response:
        """Answers only with a cookie: a page that was come to from elsewhere asks whether there is one."""
        return Response(status=204)

    return pages
