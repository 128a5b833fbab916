"""An endpoint as the tables show it: read from the API's JSON, leniently, so that a missing field is a blank cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controlplane.commands.client import Json
from controlplane.commands.output import Layout, Row


@dataclass(frozen=True, slots=True)
class EntityView:
    """A served entity in one config version; fields that the answer lacks are empty."""

    name: str
    model: str
    model_version: str
    traffic: str
    #: `READY`, `CREATING`, `FAILED` …: the API's word without its `DEPLOYMENT_`.
    deployment: str
    message: str

    @property
    def registered(self) -> str:
        """The registered model and its version."""
        return f"{self.model} {self.model_version}".strip()


@dataclass(frozen=True, slots=True)
class ConfigView:
    """A config version and its entities, in the order submitted."""

    version: int
    entities: tuple[EntityView, ...]


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint: its active config, and the pending one while an update is under way or after it failed."""

    name: str
    ready: str
    #: `state.config_update`; "" when the answer does not tell.
    update: str
    active: ConfigView | None
    pending: ConfigView | None


def endpoint_view(body: Json) -> EndpointView:
    """What the API's answer says of an endpoint."""
    state = _object(body.get("state"))
    return EndpointView(
        name=_text(body.get("name")),
        ready=_text(state.get("ready")),
        update=_text(state.get("config_update")),
        active=_config(body.get("config")),
        pending=_config(body.get("pending_config")),
    )


def endpoint_views(body: Json) -> list[EndpointView]:
    """What the API's list says, sorted by name."""
    return sorted((endpoint_view(each) for each in _objects(body.get("endpoints"))), key=lambda view: view.name)


def is_summary(listed: Json) -> bool:
    """True when a list's element leaves out what the status table shows."""
    config, state = _object(listed.get("config")), _object(listed.get("state"))
    updating = state.get("config_update", "NOT_UPDATING") != "NOT_UPDATING"
    return (bool(config) and "traffic_config" not in config) or (updating and "pending_config" not in listed)


def _config(value: Any) -> ConfigView | None:
    config = _object(value)
    if not config:
        return None
    routes = _objects(_object(config.get("traffic_config")).get("routes"))
    percents = {
        _text(route.get("served_model_name") or route.get("served_entity_name")): _text(route.get("traffic_percentage"))
        for route in routes
    }
    version = config.get("config_version")
    return ConfigView(
        version if isinstance(version, int) else 0,
        tuple(
            _entity(entity, percents)
            for entity in _objects(config.get("served_entities") or config.get("served_models"))
        ),
    )


def _entity(entity: Json, percents: dict[str, str]) -> EntityView:
    name = _text(entity.get("name"))
    state = _object(entity.get("state"))
    percent = percents.get(name)
    return EntityView(
        name=name,
        model=_text(entity.get("entity_name") or entity.get("model_name")),
        model_version=_text(entity.get("entity_version") or entity.get("model_version")),
        traffic=f"{percent}%" if percent else "",
        deployment=_text(state.get("deployment")).removeprefix("DEPLOYMENT_"),
        message=_text(state.get("deployment_state_message")),
    )


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return "" if value is None else str(value)


# ---- rows ----

DETAILS = (
    ("id", "id"),
    ("creator", "creator"),
    ("created", "creation_timestamp"),
    ("updated", "last_updated_timestamp"),
    ("your permission", "permission_level"),
    ("description", "description"),
    ("tags", "tags"),
)

LIST = Layout(("NAME", "READY", "UPDATE", "SERVED ENTITIES"))
HISTORY = Layout(("VERSION", "RESULT", "BEGAN", "SERVED ENTITIES", "TRAFFIC"))
STATUS = Layout(
    headers=("ENDPOINT", "READY", "UPDATE", "CONFIG", "ENTITY", "MODEL", "TRAFFIC", "DEPLOYMENT", "MESSAGE"),
    group=4,
    labels=(0, 4),
)


def detail_rows(body: Json) -> list[Row]:
    """What an endpoint has apart from its configs: a row for each field that is set."""
    rows = ((label, _detail(body.get(field))) for label, field in DETAILS)
    return [(label, value) for label, value in rows if value]


def _detail(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{_text(tag.get('key'))}={_text(tag.get('value'))}" for tag in _objects(value))
    if isinstance(value, int):
        return _moment(value)
    return _text(value)


def _moment(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return str(milliseconds)


def list_rows(views: Iterable[EndpointView]) -> list[Row]:
    """One row an endpoint."""
    return [(view.name, view.ready, view.update, _summary(view)) for view in views]


def _summary(view: EndpointView) -> str:
    shown = view.active or view.pending
    return ", ".join(f"{entity.name} ({entity.registered})" for entity in shown.entities) if shown else ""


def history_rows(body: Json) -> list[Row]:
    """One row a config version, oldest first."""
    rows: list[Row] = []
    for past in _objects(body.get("config_versions")):
        config = _config(past)
        result = _text(_object(past.get("state")).get("config_update"))
        began = past.get("start_time")
        rows.append(
            (
                _text(past.get("config_version")),
                _RESULTS.get(result, result),
                _moment(began) if isinstance(began, int) else "",
                ", ".join(f"{entity.name} ({entity.registered})" for entity in config.entities) if config else "",
                " ".join(f"{entity.name}={entity.traffic}" for entity in config.entities) if config else "",
            )
        )
    return rows


#: In a history NOT_UPDATING says that the update came to its end.
_RESULTS = {"NOT_UPDATING": "APPLIED"}


def status_rows(views: Iterable[EndpointView]) -> list[Row]:
    """One row for each entity of the active and of the pending config; one for an endpoint that has neither."""
    rows: list[Row] = []
    for view in views:
        before = len(rows)
        for config in (view.active, view.pending):
            if config is not None:
                label = f"{config.version or ''} {_standing(view) if config is view.pending else ''}".strip()
                rows.extend(
                    (view.name, view.ready, view.update, label, *_entity_cells(entity)) for entity in config.entities
                )
        if len(rows) == before:
            rows.append((view.name, view.ready, view.update, "", "", "", "", "", ""))
    return rows


def _standing(view: EndpointView) -> str:
    return {"UPDATE_FAILED": "failed", "UPDATE_CANCELED": "canceled"}.get(view.update, "pending")


def _entity_cells(entity: EntityView) -> Row:
    return (entity.name, entity.registered, entity.traffic, entity.deployment, entity.message)
