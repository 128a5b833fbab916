"""Asking an endpoint: a form whose request the browser sends to Envoy itself, as any other client would."""

from __future__ import annotations

from flask import Blueprint, render_template

from controlplane.ui.backend import Api, ApiError, endpoint_path
from controlplane.ui.deps import PageDeps
from controlplane.ui.text import pretty


def blueprint(_deps: PageDeps, api: Api) -> Blueprint:
    """The form."""
    pages = Blueprint("query", __name__, url_prefix="/ui/endpoints/<name>/query")

    @pages.get("/")
    def show(name: str) -> str:
        details = api.get(endpoint_path(name))
        served = [entity["name"] for entity in details.get("config", {}).get("served_entities", ())]
        examples, why = _examples(api, name)
        first = next(iter(examples.values()), pretty({"dataframe_split": {"columns": [], "data": []}}))
        return render_template(
            "query.html", endpoint=details, served=served, examples=examples, example=first, why=why, tab="query"
        )

    return pages


def _examples(api: Api, name: str) -> tuple[dict[str, str], str]:
    """Each served model's input example, where it has one; and why there is none at all."""
    try:
        paths = api.get(endpoint_path(name, "openapi")).get("paths", {})
    except ApiError as refusal:
        return {}, refusal.message
    bodies = {
        path.split("/")[2]: operation["post"]["requestBody"]["content"]["application/json"]
        for path, operation in paths.items()
    }
    examples = {served: body["example"] for served, body in bodies.items() if "example" in body}
    return {served: pretty(example) for served, example in examples.items()}, ""
