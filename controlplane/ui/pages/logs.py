"""What served models have printed, and how their environments were built."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from controlplane.ui.backend import Api, ApiError, endpoint_path
from controlplane.ui.deps import PageDeps

KINDS = {"logs": "Output", "build-logs": "Environment"}


def blueprint(_deps: PageDeps, api: Api) -> Blueprint:
    """The page, whole or as the part that changes."""
    pages = Blueprint("logs", __name__, url_prefix="/ui/endpoints/<name>/logs")

    @pages.get("/")
    def show(name: str) -> str:
        details = api.get(endpoint_path(name))
        served = [
            entity["name"]
            for config in (details.get("pending_config"), details.get("config"))
            for entity in (config or {}).get("served_entities", ())
        ]
        served = list(dict.fromkeys(served))
        chosen = request.args.get("model") or (served[0] if served else "")
        kind = request.args.get("kind", "logs")
        kind = kind if kind in KINDS else "logs"
        printed = last_lines(api, name, chosen, kind, 1000) if chosen else ""
        template = "logs_part.html" if "HX-Request" in request.headers else "logs.html"
        return render_template(
            template,
            endpoint=details,
            served=served,
            chosen=chosen,
            kind=kind,
            kinds=KINDS,
            printed=printed,
            tab="logs",
        )

    return pages


def last_lines(api: Api, name: str, served: str, kind: str, most: int) -> str:
    """The end of a log; why there is none, where the API says so."""
    try:
        text: str = api.get(endpoint_path(name, "served-models", served, kind))["logs"]
    except ApiError as refusal:
        return refusal.message
    return "\n".join(text.splitlines()[-most:])
