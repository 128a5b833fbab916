"""Request bodies, made from flags, from files and from what the API answered. Sends nothing.

What the server checks is left to the server: here only what would not make a request at all is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import click
import yaml

from controlplane.commands.client import Json

#: What the API adds to an entity; a request does not carry it.
ANSWERED_OF_ENTITY = frozenset({"creator", "creation_timestamp", "state", "foundation_model", "type"})
#: The fields of an endpoint that a create request may carry.
ASKED_OF_ENDPOINT = (
    "name",
    "config",
    "ai_gateway",
    "budget_policy_id",
    "description",
    "email_notifications",
    "rate_limits",
    "route_optimized",
    "tags",
    "telemetry_config",
    "usage_policy_id",
)


def entity_flag(value: str) -> Json:
    """The served entity that `[name=]model:version` means; without a name the server makes one."""
    name, equals, registered = value.partition("=")
    if not equals:
        name, registered = "", value
    model, _, version = registered.rpartition(":")
    if not (model and version) or (equals and not name):
        raise click.BadParameter(f"{value!r} is not of the form name=model:version, such as current=churn:3.")
    entity = {"entity_name": model, "entity_version": version}
    return {"name": name, **entity} if name else entity


def share_flag(value: str) -> tuple[str, int]:
    """The served entity and the percentage that `name=percent` means; whether the sum is 100, the server says."""
    name, _, percent = value.rpartition("=")
    number = percent.removesuffix("%")
    if not name or re.fullmatch("[0-9]{1,9}", number) is None:
        raise click.BadParameter(f"{value!r} is not of the form name=percent with a whole number, such as current=90.")
    return name, int(number)


def shares(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The percentages by name; raises UsageError when a name comes twice."""
    made: dict[str, int] = {}
    for name, percent in pairs:
        if name in made:
            raise click.UsageError(f"{name} is given twice: {name}={made[name]} and {name}={percent}")
        made[name] = percent
    return made


def config_of_flags(entities: Iterable[Json], traffic: dict[str, int]) -> Json:
    """A config with these entities and this split; without a split the server decides."""
    config: Json = {"served_entities": list(entities)}
    if traffic:
        config["traffic_config"] = _traffic(traffic)
    return config


def config_with_shares(config: Json, traffic: dict[str, int]) -> Json:
    """A request for the same entities as in a config the API answered, under other percentages.

    An entity that `traffic` leaves out gets 0: it stays deployed, and direct queries still reach it.
    """
    request = as_request(config)
    names = [str(entity.get("name", "")) for entity in request["served_entities"]]
    return {**request, "traffic_config": _traffic({**dict.fromkeys(names, 0), **traffic})}


def as_request(config: Json) -> Json:
    """The config that, sent, asks for what the API answered: one of its mirrored spellings, nothing the server added."""
    request: Json = {
        "served_entities": [
            {key: value for key, value in entity.items() if key not in ANSWERED_OF_ENTITY}
            for entity in config.get("served_entities") or []
        ]
    }
    routes = (config.get("traffic_config") or {}).get("routes") or []
    if routes:
        request["traffic_config"] = {
            "routes": [
                {
                    "served_model_name": route.get("served_model_name") or route.get("served_entity_name"),
                    "traffic_percentage": route.get("traffic_percentage"),
                }
                for route in routes
            ]
        }
    if capture := config.get("auto_capture_config"):
        request["auto_capture_config"] = {key: value for key, value in capture.items() if key != "state"}
    return request


def create_body(name: str, document: Json) -> Json:
    """The create request in a document: a whole request, its config alone, or an endpoint as the API answered it."""
    if "config" not in document and "pending_config" not in document and _is_config(document):
        document = {"config": document}
    if document.get("name", name) != name:
        raise click.UsageError(f"the file is for the endpoint {document['name']!r}, not for {name!r}")
    if "state" in document:
        document = {key: document[key] for key in ASKED_OF_ENDPOINT if key in document}
    return {**document, "name": name, **({"config": config_of(document)} if "config" in document else {})}


def update_body(name: str, document: Json) -> tuple[Json, list[str]]:
    """The config in a document, and the names of the document's fields that an update cannot carry."""
    if not isinstance(document.get("config"), dict):
        return config_of({"config": document}), []
    if document.get("name", name) != name:
        raise click.UsageError(f"the file is for the endpoint {document['name']!r}, not for {name!r}")
    left = [] if "state" in document else [field for field in ASKED_OF_ENDPOINT[2:] if field in document]
    return config_of(document), left


def config_of(document: Json) -> Json:
    """The document's `config`, as a request if it is an answer."""
    config: Json = document["config"]
    return as_request(config) if isinstance(config, dict) and "config_version" in config else config


def file_name(file: IO[bytes]) -> str:
    """What to call the file in messages; its ending tells the format."""
    name = str(getattr(file, "name", "<stdin>"))
    return "standard input" if name == "<stdin>" else name


def read_document(file: IO[bytes]) -> Json:
    """The JSON or YAML object in a file; raises UsageError with the place of what is wrong."""
    name = file_name(file)
    try:
        text = file.read().decode()
        is_json = Path(name).suffix == ".json" or text.lstrip().startswith("{")
        document = json.loads(text) if is_json else json.loads(json.dumps(yaml.safe_load(text), default=str))
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name} is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise click.UsageError(f"{name}, line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise click.UsageError(f"{name} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise click.UsageError(f"{name} has to hold an object: an endpoint's config, or a whole create request")
    return document


def read_documents(file: IO[bytes]) -> list[Json]:
    """The endpoints in a file: one JSON object, or YAML documents; raises UsageError with what is wrong with which.

    Each names its endpoint and is a create request, or what `endpoints get -o json` printed.
    """
    name = file_name(file)
    try:
        text = file.read().decode()
        found = [json.loads(json.dumps(each, default=str)) for each in yaml.safe_load_all(text) if each is not None]
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name} is not UTF-8 text") from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise click.UsageError(f"{name} is not YAML: {error}") from error
    if not found:
        raise click.UsageError(f"{name} holds no endpoint")
    for number, document in enumerate(found, 1):
        if not isinstance(document, dict) or not isinstance(document.get("name"), str) or not document["name"]:
            raise click.UsageError(f"document {number} of {name} has to be an object with the endpoint's name")
    return found


def _is_config(document: Json) -> bool:
    return any(field in document for field in ("served_entities", "served_models", "traffic_config"))


def _traffic(percents: dict[str, int]) -> Json:
    routes = [{"served_model_name": name, "traffic_percentage": percent} for name, percent in percents.items()]
    return {"routes": routes}
