"""The Open Inference Protocol (KServe's and Triton's V2): its requests to payloads, predictions to its answers. Pure.

Tensors come as JSON, or in binary behind the JSON, as Triton's clients send them unless told otherwise; answers are JSON.
What a model is given is what it would be given in MLflow's own format, so that all that holds there holds here.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson

from model_worker import codec
from model_worker.codec import Format, InputError, OutputError, Payload
from model_worker.columns import Signature, Tensor

#: A request of this protocol, wherever it is sent. Its parameters: `model`, the name to answer with, and `json`, the length
#: of the JSON where binary tensors follow.
MEDIA_TYPE = "application/vnd.open-inference+json"

#: What an answer that has no names of its own is called, as MLServer calls it.
UNNAMED = "output-1"

Array = np.ndarray[Any, Any]

_FLOATS: frozenset[type] = frozenset({float, int, type(None)})
#: Each datatype's array type, little-endian as the protocol has it, and what its values are in JSON.
_DATATYPES: Mapping[str, tuple[str, frozenset[type]]] = {
    "BOOL": ("?", frozenset({bool})),
    **{f"INT{size * 8}": (f"<i{size}", frozenset({int})) for size in (1, 2, 4, 8)},
    **{f"UINT{size * 8}": (f"<u{size}", frozenset({int})) for size in (1, 2, 4, 8)},
    **{f"FP{size * 8}": (f"<f{size}", _FLOATS) for size in (2, 4, 8)},
    "BYTES": ("O", frozenset({str})),
}

#: Parameters of requests that are the servers', not the models'.
_SERVERS = frozenset(
    {
        *("binary_data_output", "content_type", "headers", "priority", "timeout"),
        *("sequence_id", "sequence_start", "sequence_end"),
    }
)


def is_meant(content_type: str | None) -> bool:
    """Whether a request is of this protocol."""
    return content_type is not None and content_type.startswith(MEDIA_TYPE)


def decode(body: bytes, content_type: str, signature: Signature) -> Payload:
    """The payload of a request to a model with this signature; it knows how its answer is written.

    Raises InputError.
    """
    options = dict(part.strip().partition("=")[::2] for part in content_type.split(";")[1:])
    length = options.get("json", "")
    end = int(length) if re.fullmatch("[0-9]{1,9}", length) else len(body)
    message = codec.load_json(body[:end])
    if not isinstance(message, dict):
        raise InputError("the request is no JSON object: send one with 'inputs', as the Open Inference Protocol has it")
    tensors = _tensors(_objects(message, "inputs"), memoryview(body)[end:])
    parameters = _object(message, "parameters")
    params = {name: value for name, value in parameters.items() if name not in _SERVERS}
    request_id = message.get("id")
    try:
        wanted = [str(output.get("name")) for output in _objects(message, "outputs")]
        request_id = None if request_id is None else str(request_id)
    except RecursionError as error:
        raise InputError("'id' and the names of 'outputs' must be strings") from error
    write = partial(encode, model=options.get("model", ""), request_id=request_id, wanted=wanted)
    layout, value = _laid_out(tensors, signature)
    return Payload(layout, value, params or None, write=write)


def encode(predictions: Any, *, model: str, request_id: str | None = None, wanted: Sequence[str] = ()) -> bytes:
    """The response: a tensor of the predictions, or one for each of their columns; of all, or of those that are wanted.

    Raises OutputError.
    """
    # What JSON makes of them decides about the datatypes, so that these are the same whichever way they were predicted.
    value = orjson.loads(codec.encode(predictions, wrapped=False))
    outputs = {name: _output(name, each) for name, each in _named(value).items()}
    for name in wanted:
        if name not in outputs:
            raise OutputError(f"the model has no output {name!r}; it has {', '.join(outputs)}")
    answer = {"model_name": model, "outputs": [outputs[name] for name in wanted or outputs]}
    if request_id is not None:
        answer["id"] = request_id
    try:
        return orjson.dumps(answer)
    except TypeError as error:  # orjson's for all that it cannot write; the outputs are what it has read
        raise OutputError(f"the request's id cannot be sent back: {error}") from error


def error(reply: bytes) -> bytes:
    """An error of ours with its message where this protocol's clients look for it, too."""
    problem = json.loads(reply)  # not orjson's, which refuses the half characters that a message may quote
    return json.dumps({**problem, "error": problem["message"]}).encode()


# Requests


def _object(message: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = message.get(key) or {}
    if not isinstance(value, dict):
        raise InputError(f"{key!r} must be a JSON object")
    return value


def _objects(message: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = message.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{key!r} must be a list of JSON objects")
    return values


def _tensors(inputs: list[dict[str, Any]], binary: memoryview) -> dict[str, Array]:
    if not inputs:
        raise InputError("'inputs' is missing or empty: send a list of tensors with name, shape, datatype and data")
    tensors: dict[str, Array] = {}
    for given in inputs:
        name, datatype, shape = given.get("name"), given.get("datatype"), given.get("shape")
        if not isinstance(name, str) or name in tensors:
            raise InputError("each of 'inputs' must have a name of its own")
        if not isinstance(datatype, str) or datatype not in _DATATYPES:
            raise InputError(f"input {name!r} has no known datatype: it is one of {', '.join(_DATATYPES)}")
        if not isinstance(shape, list) or not all(type(each) is int and each >= 0 for each in shape):
            raise InputError(f"input {name!r} has no shape: send a list of numbers")
        dtype, types = _DATATYPES[datatype]
        size = _object(given, "parameters").get("binary_data_size")
        try:
            if size is None:
                array = _from_json(given.get("data"), dtype, types)
            else:
                array, binary = _from_bytes(binary[:size], dtype), binary[size:]
            tensors[name] = array.reshape(shape)
        except (TypeError, ValueError, OverflowError, FloatingPointError, struct.error) as error:
            message = f"the data of input {name!r} does not fit its datatype {datatype} and its shape {shape}"
            raise InputError(message) from error
    return tensors


def _from_json(data: Any, dtype: str, types: frozenset[type]) -> Array:
    # As objects first: numpy would make words of numbers among words, each as long as the longest.
    values = np.array(data, "O")
    if not isinstance(data, list) or not types.issuperset(map(type, values.flat)):
        raise TypeError
    with np.errstate(over="raise"):
        return values.astype(dtype)


def _from_bytes(data: memoryview, dtype: str) -> Array:
    if dtype != "O":
        return np.frombuffer(data, dtype)
    texts: list[str] = []
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        texts.append(str(data[at - length : at], "utf-8"))
    return np.array(texts, dtype)


def _laid_out(tensors: dict[str, Array], signature: Signature) -> tuple[Format, Any]:
    """The tensors as a model of this signature wants them: one array, arrays by name, or the rows of a table."""
    only = next(iter(tensors.values())) if len(tensors) == 1 else None
    if only is not None and (signature is None or isinstance(signature, Tensor)):
        return Format.INPUTS, only.tolist()
    if isinstance(signature, Tensor):
        raise InputError(f"the model takes one tensor, not {len(tensors)}")
    if signature == ():
        return Format.INPUTS, {name: tensor.tolist() for name, tensor in tensors.items()}
    if only is not None and only.ndim == 2 and signature is not None and only.shape[1] == len(signature) > 1:
        return Format.DATAFRAME_SPLIT, {"columns": [column.name for column in signature], "data": only.tolist()}
    for name, tensor in tensors.items():
        if tensor.ndim != 1 and (tensor.ndim != 2 or tensor.shape[1] != 1):
            raise InputError(
                f"input {name!r} has the shape {list(tensor.shape)}: send each column as a tensor of shape [rows] or "
                "[rows, 1], or all of the signature's columns as one of shape [rows, columns]"
            )
    columns = [tensor.ravel().tolist() for tensor in tensors.values()]
    if len(set(map(len, columns))) > 1:
        raise InputError("the inputs are columns of different lengths")
    return Format.DATAFRAME_SPLIT, {"columns": list(tensors), "data": [list(row) for row in zip(*columns, strict=True)]}


# Responses


def _named(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(row, dict) and row.keys() == value[0].keys() for row in value)
    ):
        return {name: [row[name] for row in value] for name in value[0]}
    return {UNNAMED: value}


def _output(name: str, value: Any) -> dict[str, Any]:
    flat = value if isinstance(value, list) else [value]
    shape = [len(flat)]
    while any(isinstance(item, list) for item in flat):
        widths = {len(item) if isinstance(item, list) else -1 for item in flat}
        if len(widths) > 1:
            raise OutputError(f"output {name!r} is no tensor, for its rows differ in length: {_ELSEWHERE}")
        shape += widths
        flat = [item for row in flat for item in row]
    types = frozenset(map(type, flat))
    if types <= {float, int, type(None)} and types != {int}:
        return {"name": name, "shape": shape, "datatype": "FP64", "data": [x if x is None else float(x) for x in flat]}
    for datatype, only in (("INT64", int), ("BOOL", bool), ("BYTES", str)):
        if types == {only}:
            return {"name": name, "shape": shape, "datatype": datatype, "data": flat}
    raise OutputError(f"output {name!r} is no tensor of one datatype: {_ELSEWHERE}")


_ELSEWHERE = "ask POST /serving-endpoints/{endpoint}/invocations"
