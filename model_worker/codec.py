"""Request bytes to a payload, predictions to response bytes. Pure: no I/O, no MLflow, no HTTP beyond the media type.

What is accepted and what is answered is what MLflow's own scoring server accepts and answers, but for its faults: NaN
and infinity are written as null, because NaN is not JSON; a request without a Content-Type is JSON.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import orjson
import pandas as pd


class Format(StrEnum):
    """How the input of a request is laid out."""

    DATAFRAME_SPLIT = "dataframe_split"
    DATAFRAME_RECORDS = "dataframe_records"
    INSTANCES = "instances"
    INPUTS = "inputs"
    #: The whole JSON object is the input, and the answer is not wrapped: chat, completions, embeddings.
    UNWRAPPED = "unwrapped"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


#: Exactly one of these is in a JSON request that is not unwrapped.
JSON_FORMATS = (Format.DATAFRAME_SPLIT, Format.DATAFRAME_RECORDS, Format.INSTANCES, Format.INPUTS)

#: One of these makes a JSON request unwrapped.
UNWRAPPED_KEYS = frozenset({"messages", "prompt", "input"})


@dataclass(slots=True)  # not frozen: one for each request, and that would cost as much as the JSON
class Payload:
    """One request's input: parsed JSON for the JSON formats, text for CSV, bytes for Parquet and Arrow."""

    format: Format
    value: Any
    params: Any = None
    #: The answer is wanted piece by piece.
    stream: bool = False
    #: How the answer is written, where that is not as MLflow writes it; may raise OutputError.
    write: Callable[[Any], bytes] | None = None


class InputError(Exception):
    """The request cannot be read; the text tells the sender what to change and repeats none of the data."""


class UnsupportedTypeError(InputError):
    """The request is of a media type that nothing here reads."""


class OutputError(Exception):
    """The model's answer cannot be written."""


def decode(body: bytes, content_type: str | None) -> Payload:
    """The payload of a request.

    Raises InputError.
    """
    return _reader(content_type)(body)


def is_json(content_type: str | None) -> bool:
    """Whether this is JSON in its usual spelling: no certainty, but what nearly everybody sends."""
    return content_type == "application/json" or not content_type


def json_value(predictions: Any) -> Any:
    """The predictions as the lists and dictionaries that MLflow would write; single items may still be anything."""
    return _plain(predictions)


def encode(predictions: Any, *, wrapped: bool) -> bytes:
    """The response: `{"predictions": …}`, or the bare answer of an unwrapped request.

    Raises OutputError.
    """
    plain = _plain(predictions)
    answer = {"predictions": plain} if wrapped else plain
    try:
        return orjson.dumps(answer, default=_plain_item, option=_DUMP_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        # TypeError is orjson's for all that it cannot write: ask its cause for what the model is to blame for.
        raise OutputError(f"the model's answer cannot be written as JSON: {error.__cause__ or error}") from error


def encode_arrow(predictions: Any) -> bytes:
    """The predictions as an Arrow IPC stream: a frame's columns, `predictions` for one value a row, `0`, `1` … for more.

    Raises OutputError.
    """
    import pyarrow as pa  # noqa: PLC0415 - 30 MB that most replicas never need

    try:
        if isinstance(predictions, pd.DataFrame):
            table = pa.Table.from_pandas(predictions, preserve_index=False)
        else:
            values = np.asarray(predictions)
            if values.ndim == 2:
                table = pa.table({str(number): column for number, column in enumerate(values.T)})
            elif values.ndim == 1:
                table = pa.table({"predictions": values})
            else:
                raise OutputError("the model's answer is no table, so that Arrow cannot hold it: ask for JSON")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        written: bytes = sink.getvalue().to_pybytes()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise OutputError(f"the model's answer cannot be written as Arrow: {error}; ask for JSON") from error
    return written


# Reading


def _reader(content_type: str | None) -> Callable[[bytes], Payload]:
    if not content_type or not content_type.strip():
        return decode_json
    media_type, *parameters = (part.strip() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' "').lower() not in {"utf-8", "utf8"}:
            raise UnsupportedTypeError(f"charset {value.strip()} is not supported: send UTF-8")
    reader = _READERS.get(media_type.lower())
    if reader is None:
        raise UnsupportedTypeError(
            f"content type {media_type} is not supported: send one of {', '.join(sorted(_READERS))}"
        )
    return reader


def decode_json(body: bytes) -> Payload:
    """The payload of a JSON request.

    Raises InputError, which names line and column of malformed JSON.
    """
    message = load_json(body)
    if not isinstance(message, dict):
        raise InputError(f"the request is a JSON {_kind(message)}: {_WANTED}")
    stream = message.get("stream") is True
    if not UNWRAPPED_KEYS.isdisjoint(message):
        return Payload(Format.UNWRAPPED, message, stream=stream)
    present = [key for key in message if key in _BY_KEY]
    if len(present) != 1:
        both = " and ".join(known for known in JSON_FORMATS if known in message)
        found = f"it has {both}" if both else f"its keys are {sorted(message)[:10]}"
        raise InputError(f"{found}: {_WANTED}")
    return Payload(_BY_KEY[present[0]], message[present[0]], message.get("params"), stream)


def decode_csv(body: bytes) -> Payload:
    """The payload of a CSV request.

    Raises InputError.
    """
    try:
        return Payload(Format.CSV, body.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"the CSV is not UTF-8: byte {error.start} cannot be read") from error


def decode_parquet(body: bytes) -> Payload:
    """The payload of a Parquet request."""
    return Payload(Format.PARQUET, body)


def decode_arrow(body: bytes) -> Payload:
    """The payload of an Arrow IPC stream."""
    return Payload(Format.ARROW, body)


#: The media type of an Arrow IPC stream, as input and in `Accept`.
ARROW_STREAM = "application/vnd.apache.arrow.stream"

_READERS: dict[str, Callable[[bytes], Payload]] = {
    "application/json": decode_json,
    "text/csv": decode_csv,
    "application/vnd.apache.parquet": decode_parquet,
    ARROW_STREAM: decode_arrow,
}

_BY_KEY = {str(known): known for known in JSON_FORMATS}
_WANTED = f"send a JSON object with exactly one of {', '.join(JSON_FORMATS)}"


def load_json(body: bytes) -> Any:
    """The value that a body holds.

    Raises InputError, which names line and column.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # Python's own takes what Python clients send: NaN, Infinity; and its errors say more.
    if not body.strip():
        raise InputError(f"the request body is empty: {_WANTED}")
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise InputError(
            f"the request body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"the request body is not UTF-8: byte {error.start} cannot be read") from error
    except RecursionError as error:
        raise InputError("the request body is nested too deeply") from error
    except ValueError as error:  # Python's limit for integers has no class of its own
        raise InputError("the request body has an integer of too many digits") from error


def _kind(value: Any) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


# Writing

# Dates go through _plain_item, which writes them as MLflow does; dictionary keys may be numbers there as well.
_DUMP_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS


def _plain(predictions: Any) -> Any:
    if isinstance(predictions, np.ndarray):
        return predictions.tolist()
    if isinstance(predictions, pd.Series):
        predictions = pd.DataFrame(predictions)
    if isinstance(predictions, pd.DataFrame):
        return predictions.to_dict(orient="records")
    return predictions


def _plain_item(value: Any) -> Any:
    """What stands for a value that JSON does not know."""
    if isinstance(value, np.ndarray | pd.Series | pd.DataFrame):
        return _plain(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes | bytearray):
        return base64.encodebytes(value).decode("ascii")
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, int):  # beyond 64 bits: as precise as JSON's readers are
        return float(value)
    dump = getattr(value, "model_dump", None)  # pydantic
    if callable(dump):
        return dump()
    raise TypeError(f"it holds a {type(value).__name__}")
