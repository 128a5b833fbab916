"""Creating an endpoint and editing its configuration: one form, checked by the API's own dry run while it is typed."""

from __future__ import annotations

import secrets

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as Answer

from controlplane.ui import forms
from controlplane.ui.backend import ENDPOINTS, Api, ApiError, Json, endpoint_path
from controlplane.ui.deps import PageDeps
from controlplane.ui.differences import Change, Line, word

CREATE = "/ui/create"
EDIT = "/ui/endpoints/<name>/edit"


def blueprint(_deps: PageDeps, api: Api) -> Blueprint:
    """The form, its parts, and what becomes of it."""
    pages = Blueprint("configuration", __name__, url_prefix="/ui")

    @pages.get("/create/")
    def new() -> str:
        return _page(api, None, forms.Form((forms.Entity(row="e0", percent="100"),)))

    @pages.get("/endpoints/<name>/edit/")
    def edit(name: str) -> str:
        details = api.get(endpoint_path(name))
        # After an update that failed or was canceled one goes on from what serves, unless nothing does.
        entities = forms.shown(details.get("config") or details.get("pending_config"))
        return _page(api, details, forms.Form(entities or (forms.Entity(row="e0", percent="100"),)))

    @pages.post("/create/check")
    def check_new() -> str:
        return _checked(api, None, _form())

    @pages.post("/endpoints/<name>/edit/check")
    def check(name: str) -> str:
        return _checked(api, api.get(endpoint_path(name)), _form())

    @pages.post("/create/")
    def create() -> Response | Answer:
        form = _form()
        try:
            made = api.call("POST", ENDPOINTS, forms.create_body(form))
        except ApiError as refusal:
            return make_response(_page(api, None, form, refusal), refusal.status)
        return redirect(f"/ui/endpoints/{made['name']}/", 303)

    @pages.post("/endpoints/<name>/edit/")
    def apply(name: str) -> Response | Answer:
        details, form = api.get(endpoint_path(name)), _form()
        try:
            api.call("PUT", endpoint_path(name, "config"), forms.config_body(form, details.get("config")))
        except ApiError as refusal:
            return make_response(_page(api, details, form, refusal), refusal.status)
        return redirect(f"/ui/endpoints/{name}/", 303)

    @pages.get("/create/row")
    def row() -> str:
        """One more served model."""
        return render_template("entity_row.html", entity=forms.Entity(row=f"e{secrets.token_hex(4)}"), versions=())

    @pages.get("/create/models")
    def models() -> str:
        """Registered models to choose from."""
        text = next((value for key, value in request.args.items() if key.endswith(".model")), "")
        return render_template("model_options.html", models=_models(api, text))

    @pages.get("/create/versions")
    def versions() -> str:
        """A registered model's versions and aliases to choose from."""
        model = next((value for key, value in request.args.items() if key.endswith(".model")), "")
        return render_template("version_options.html", versions=_versions(api, model.strip()), chosen="")

    return pages


def _page(api: Api, details: Json | None, form: forms.Form, refusal: ApiError | None = None) -> str:
    known = {entity.model: _versions(api, entity.model) for entity in form.entities}
    return render_template(
        "configuration.html",
        endpoint=details,
        form=form,
        versions=known,
        models=_models(api, ""),
        refusal=refusal,
        tab="edit",
    )


def _checked(api: Api, details: Json | None, form: forms.Form) -> str:
    """What the API says of the form without carrying it out."""
    try:
        if details is None:
            told = api.call("POST", ENDPOINTS, forms.create_body(form), dry_run="true")
        else:
            body = forms.config_body(form, details.get("config"))
            told = api.call("PUT", endpoint_path(details["name"], "config"), body, dry_run="true")
    except ApiError as refusal:
        problems: list[Json] = [{"field": "", "message": refusal.message}]
        told = {"accepted": False, "problems": problems}
    return render_template("check.html", told=told, changes=_changes(told))


def _models(api: Api, text: str) -> list[str]:
    try:
        found: list[str] = api.get("/api/2.0/wye/models", name_contains=text.strip())["models"]
    except ApiError:
        return []  # a name can be typed as well, and the dry run says what is wrong
    return found


def _versions(api: Api, model: str) -> list[Json]:
    if not model:
        return []
    try:
        found: list[Json] = api.get("/api/2.0/wye/model-versions", name=model)["model_versions"]
    except ApiError:
        return []
    return found


def _form() -> forms.Form:
    return forms.read(request.form, request.form.getlist("row"))


_KINDS = {"start": "starts", "restart": "restarts", "keep": "keeps running", "stop": "stops"}


def _changes(told: Json) -> list[Change]:
    """What a dry run says of each served entity, its share of the traffic included."""
    routes = {route["served_model_name"]: route for route in told.get("routes", ())}
    found = []
    for entity in told.get("served_entities", ()):
        lines = [
            Line(word(line["field"]), _text(line.get("before")), _text(line.get("after")))
            for line in entity["fields"]
            if line["field"] != "name"
        ]
        route = routes.get(entity["name"])
        if route is not None:
            lines.append(Line("traffic", _percent(route.get("before")), _percent(route.get("after"))))
        found.append(Change(entity["name"], _KINDS.get(entity["replicas"], entity["replicas"]), tuple(lines)))
    return found


def _percent(value: object) -> str:
    return "" if value is None else f"{value} %"


def _text(value: object) -> str:
    if value is None:
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
