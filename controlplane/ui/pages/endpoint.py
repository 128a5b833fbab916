"""One endpoint: what serves, what is on its way, how it is doing; and what is done with one click."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, redirect, render_template, request
from werkzeug.wrappers import Response as Answer

from controlplane.domain import Endpoint, Phase, Replica
from controlplane.load_history import STEP, Recent, times
from controlplane.ui import listing
from controlplane.ui.backend import Api, ApiError, Json, endpoint_path
from controlplane.ui.deps import PageDeps
from controlplane.ui.pages.logs import last_lines
from controlplane.ui.progress import steps
from controlplane.ui.snippets import snippets

#: Minutes that "observed" looks back, at most to the moment at which the present config was asked for.
OBSERVED_MS = 5 * 60 * 1000
#: What is done with a form that has no fields, and the API's call for it.
ACTIONS = {"cancel": "config:cancel", "stop": "config:stop", "start": "config:start"}


def blueprint(deps: PageDeps, api: Api) -> Blueprint:
    """The overview and its live parts."""
    pages = Blueprint("endpoint", __name__, url_prefix="/ui/endpoints/<name>")

    @pages.get("/")
    def show(name: str) -> str:
        details = api.get(endpoint_path(name))
        example = _example(api, name)
        ways = snippets(request.host_url.rstrip("/"), name, example, with_token=deps.sign_in is not None)
        return render_template("endpoint.html", **_live(deps, api, name, details), snippets=ways, minutes=_minutes())

    @pages.get("/live")
    def live(name: str) -> str:
        return render_template("endpoint_part.html", **_live(deps, api, name, api.get(endpoint_path(name))))

    @pages.get("/load")
    def load(name: str) -> Response:
        """The charts' data: columns by served entity."""
        api.get(endpoint_path(name))
        endpoint = deps.endpoints.get(name)
        now_ms = deps.clock.now_ms()
        series = []
        for key in listing.keys(endpoint) if endpoint is not None else ():
            points = deps.history.points(key, now_ms)
            line = {
                "name": key[1],
                "rate": points.rate,
                "errors": [None if part is None else 100 * part for part in points.error_share],
                "in_flight": points.in_flight,
                "replicas": points.replicas,
                "p50": points.p50,
                "p99": points.p99,
            }
            series.append(line)
        return jsonify(times=times(now_ms), step=STEP, series=series)

    @pages.post("/do/<action>")
    def do(name: str, action: str) -> Answer:
        if action not in ACTIONS:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", "There is no such page.")
        api.call("POST", endpoint_path(name, ACTIONS[action]))
        return redirect(f"/ui/endpoints/{name}/", 303)

    return pages


def _live(deps: PageDeps, api: Api, name: str, details: Json) -> dict[str, Any]:
    endpoint = deps.endpoints.get(name)
    if endpoint is None:
        raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"Serving endpoint with name {name} not found.")
    replicas, now_ms = deps.replicas_of(endpoint.id), deps.clock.now_ms()
    _note(deps, endpoint, replicas, now_ms)
    updating = details["state"]["config_update"] == "IN_PROGRESS"
    failed = details["state"]["config_update"] == "UPDATE_FAILED"
    return {
        "endpoint": details,
        "row": listing.row(endpoint, replicas, deps.history.recent(listing.keys(endpoint), now_ms)),
        "models": _models(deps, details, endpoint, replicas, now_ms),
        "steps": steps(endpoint, replicas, deps.published(endpoint.id)),
        "updating": updating,
        "failed": failed,
        "may_manage": details["permission_level"] == "CAN_MANAGE",
        "may_query": details["permission_level"] != "CAN_VIEW",
        "printed": _printed(api, name, details) if updating or failed else (),
        "tab": "overview",
    }


def _note(deps: PageDeps, endpoint: Endpoint, replicas: tuple[Replica, ...], now_ms: int) -> None:
    """Somebody looks: how many replicas there are is worth a point also while nobody asks them anything."""
    deps.history.watch(endpoint.name, now_ms)
    for entity in endpoint.active.entities if endpoint.active is not None else ():
        ready = sum(r.phase is Phase.READY and r.deployment.entity == entity.name for r in replicas)
        deps.history.measured((endpoint.id[:8], entity.name), endpoint.name, now_ms, replicas=ready)


def _models(
    deps: PageDeps, details: Json, endpoint: Endpoint, replicas: tuple[Replica, ...], now_ms: int
) -> list[dict[str, Any]]:
    """Each served model of the active config: asked for and observed."""
    config = details.get("config")
    if config is None:
        return []
    percents = {r["served_model_name"]: r["traffic_percentage"] for r in config["traffic_config"]["routes"]}
    since = max(now_ms - OBSERVED_MS, endpoint.active.started_ms if endpoint.active else 0)
    issued = {
        entity["name"]: deps.history.issued((endpoint.id[:8], entity["name"]), since, now_ms)
        for entity in config["served_entities"]
    }
    total = sum(issued.values())
    return [
        {
            "entity": entity,
            "percent": percents.get(entity["name"], 0),
            "observed": 100 * issued[entity["name"]] / total if total else None,
            "requests": issued[entity["name"]],
            "load": _recent(deps, endpoint, entity["name"], now_ms),
            "ready": sum(r.phase is Phase.READY and r.deployment.entity == entity["name"] for r in replicas),
        }
        for entity in config["served_entities"]
    ]


def _recent(deps: PageDeps, endpoint: Endpoint, entity: str, now_ms: int) -> Recent:
    return deps.history.recent([(endpoint.id[:8], entity)], now_ms)


def _minutes() -> int:
    return OBSERVED_MS // 60_000


def _printed(api: Api, name: str, details: Json) -> list[dict[str, str]]:
    """The logs of the models that are being brought up, or did not come up, for those who may read them."""
    if details["permission_level"] != "CAN_MANAGE":
        return []
    found = []
    for entity in details.get("pending_config", {}).get("served_entities", ()):
        if entity["state"]["deployment"] not in {"DEPLOYMENT_CREATING", "DEPLOYMENT_FAILED"}:
            continue
        for kind, title in (("build-logs", "environment"), ("logs", "output")):
            lines = last_lines(api, name, entity["name"], kind, 40)
            if lines:
                found.append({"name": entity["name"], "title": title, "text": lines})
    return found


def _example(api: Api, name: str) -> Any:
    """The input example of the first served model that has one."""
    try:
        description = api.get(endpoint_path(name, "openapi"))
    except ApiError:
        return None
    bodies = [
        path["post"]["requestBody"]["content"]["application/json"] for path in description.get("paths", {}).values()
    ]
    return next((body["example"] for body in bodies if "example" in body), None)
