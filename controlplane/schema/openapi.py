"""The OpenAPI description of one endpoint's inference calls, made from its models' MLflow signatures and examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controlplane.domain import EndpointConfig
from controlplane.domain.model import ModelDescription
from controlplane.schema.text import JsonObject

#: MLflow's types of columns and params as JSON Schema, and a value of each.
_TYPES: dict[str, tuple[JsonObject, Any]] = {
    "boolean": ({"type": "boolean"}, True),
    "integer": ({"type": "integer", "format": "int32"}, 0),
    "long": ({"type": "integer", "format": "int64"}, 0),
    "float": ({"type": "number", "format": "float"}, 0.0),
    "double": ({"type": "number", "format": "double"}, 0.0),
    "string": ({"type": "string"}, ""),
    "binary": ({"type": "string", "format": "byte"}, ""),
    "datetime": ({"type": "string", "format": "date-time"}, "2025-01-31T00:00:00"),
    "any": ({}, None),
}
_ERROR = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
}


def endpoint_openapi(
    name: str, config: EndpointConfig, models: Mapping[str, ModelDescription], base_url: str
) -> JsonObject:
    """The description of an endpoint that serves `config`; `models` are described by served entity."""
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(config.version)},
        "servers": [{"url": f"{base_url}/serving-endpoints/{name}"}],
        "paths": {
            f"/served-models/{entity.name}/invocations": {"post": _operation(entity.name, models[entity.name])}
            for entity in config.entities
        },
    }


def _operation(served: str, model: ModelDescription) -> JsonObject:
    inputs, params = _read(model.inputs), _read(model.params)
    body: JsonObject = {"schema": {"oneOf": _bodies(inputs, params)}}
    example = _example(model, inputs)
    if example is not None:
        body["example"] = example
    return {
        "operationId": f"query-{served}",
        "summary": f"Predict with {served}, whatever the traffic split.",
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {
                "description": "Predictions, in the order of the rows.",
                "content": {"application/json": {"schema": _answer(_read(model.outputs))}},
            },
            "default": {"description": "Refused.", "content": {"application/json": {"schema": _ERROR}}},
        },
    }


def _bodies(inputs: list[JsonObject], params: list[JsonObject]) -> list[JsonObject]:
    """The bodies that the model takes, exactly one of them."""
    extra = {"params": _params(params)} if params else {}
    if _are_columns(inputs):
        return [_split(inputs, extra), _records(inputs, extra)]
    if inputs:
        tensors = inputs[0].get("tensor-spec") and [_tensor(each) for each in inputs]
        value: JsonObject = {} if not tensors or len(tensors) > 1 else tensors[0]
        return [_body("inputs", value, extra), _body("instances", {"type": "array"}, extra)]
    keys = ("dataframe_split", "dataframe_records", "instances", "inputs")
    return [_body(key, {"type": "object"} if key == "dataframe_split" else {}, extra) for key in keys]


def _are_columns(inputs: list[JsonObject]) -> bool:
    return bool(inputs) and all("name" in each and each.get("type") != "tensor" for each in inputs)


def _body(key: str, value: JsonObject, extra: JsonObject) -> JsonObject:
    return {"type": "object", "required": [key], "properties": {key: value, **extra}}


def _split(columns: list[JsonObject], extra: JsonObject) -> JsonObject:
    row = {
        "type": "array",
        "prefixItems": [_type(column) for column in columns],
        "minItems": len(columns),
        "maxItems": len(columns),
    }
    names = [column["name"] for column in columns]
    return _body(
        "dataframe_split",
        {
            "type": "object",
            "required": ["columns", "data"],
            "properties": {
                "index": {"type": "array", "items": {}},
                "columns": {"type": "array", "const": names},
                "data": {"type": "array", "items": row},
            },
        },
        extra,
    )


def _records(columns: list[JsonObject], extra: JsonObject) -> JsonObject:
    row = {
        "type": "object",
        "required": [column["name"] for column in columns if column.get("required", True)],
        "properties": {column["name"]: _type(column) for column in columns},
    }
    return _body("dataframe_records", {"type": "array", "items": row}, extra)


def _params(params: list[JsonObject]) -> JsonObject:
    return {
        "type": "object",
        "properties": {each["name"]: {**_type(each), "default": each.get("default")} for each in params},
    }


def _answer(outputs: list[JsonObject]) -> JsonObject:
    if _are_columns(outputs):
        row = {"type": "object", "properties": {column["name"]: _type(column) for column in outputs}}
        predictions: JsonObject = {"type": "array", "items": row}
    elif len(outputs) == 1:
        only = outputs[0]
        predictions = _tensor(only) if "tensor-spec" in only else {"type": "array", "items": _type(only)}
    else:
        predictions = {}
    return {"type": "object", "properties": {"predictions": predictions}}


def _type(column: JsonObject) -> JsonObject:
    kind = column.get("type")
    if kind == "array":
        return {"type": "array", "items": _type(column.get("items") or {})}
    if kind == "map":
        return {"type": "object", "additionalProperties": _type(column.get("values") or {})}
    if kind == "object":
        properties: JsonObject = column.get("properties") or {}
        return {"type": "object", "properties": {name: _type(each) for name, each in properties.items()}}
    shape = column.get("shape")
    scalar: JsonObject = _TYPES.get(str(kind), ({}, None))[0]
    return {"type": "array", "items": scalar} if shape else scalar


def _tensor(spec: JsonObject) -> JsonObject:
    """Nested arrays, one level a dimension."""
    tensor = spec.get("tensor-spec") or {}
    kind = str(tensor.get("dtype", ""))
    schema: JsonObject = {"type": "number"} if kind.startswith(("float", "int", "uint")) else {}
    for size in reversed(tensor.get("shape") or []):
        schema = {"type": "array", "items": schema}
        if isinstance(size, int) and size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _example(model: ModelDescription, inputs: list[JsonObject]) -> Any:
    """The model's own example; else a row of zeros and empty strings that has the right columns; else None."""
    if model.example:
        return json.loads(model.example)
    if not _are_columns(inputs) or any(str(column.get("type")) not in _TYPES for column in inputs):
        return None
    row = [_TYPES[str(column["type"])][1] for column in inputs]
    return {"dataframe_split": {"columns": [column["name"] for column in inputs], "data": [row]}}


def _read(text: str) -> list[JsonObject]:
    value = json.loads(text) if text else []
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
