"""A request's bytes as JSON values, with errors that say where. Knows nothing of endpoints."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from controlplane.domain import Problem, ProblemCode, ProblemError

JsonObject = dict[str, Any]

#: Deeper bodies are refused: nothing in the API is nested half as deep, and encoders give up somewhere beyond.
MOST_LEVELS = 64


def read_object(body: bytes) -> JsonObject:
    """The JSON object in `body`: finite numbers of at most 64 bits, whole characters, at most MOST_LEVELS deep.

    Raises ProblemError (BAD_REQUEST), naming line and column where the text is not JSON.
    """
    text = _decode(body)
    if not text.strip():
        _refuse("The body is empty; send a JSON object.")
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_constant)
    except json.JSONDecodeError as error:
        _refuse(f"The body is not valid JSON: {_place(error.lineno, error.colno)}: {_lower(error.msg)}.")
    except RecursionError:
        _refuse_depth()
    if not isinstance(value, dict):
        _refuse(f"The body must be a JSON object, not {kind(value)}.")
    if _deeper_than(value, MOST_LEVELS):
        _refuse_depth()
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        _refuse("The body has an escape such as \\ud800 that is half of a character; write the whole character.")
    return value


def canonical(value: Any) -> str:
    """The one JSON text that equal values share."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def kind(value: Any) -> str:
    """What JSON calls a value of this type, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "a string", int: "a number", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), "a value")


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")  # PowerShell and Notepad put a byte order mark before JSON
    except UnicodeDecodeError as error:
        before = body[: error.start].decode("utf-8-sig", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        _refuse(f"The body is not valid JSON: {_place(line, column)}: not UTF-8 text.")


def _integer(text: str) -> int:
    if len(text) <= 20 and -(2**63) <= (value := int(text)) < 2**63:
        return value
    return _refuse(f"The body has the number {_cut(text)}, which does not fit into 64 bits.")


def _number(text: str) -> float:
    value = float(text)
    if value - value != 0:  # infinite: JSON has no way to write it back
        _refuse(f"The body has the number {_cut(text)}, which is too large.")
    return value


def _constant(text: str) -> NoReturn:
    _refuse(f"The body is not valid JSON: it contains {text}, which JSON does not have.")


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        inside: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                inside.extend(item.values())
            elif isinstance(item, list):
                inside.extend(item)
        layer = inside
    return bool(layer)


def _place(line: int, column: int) -> str:
    return f"line {line} column {column}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _cut(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:30]}…"


def _refuse_depth() -> NoReturn:
    _refuse(f"The body is nested more than {MOST_LEVELS} levels deep.")


def _refuse(message: str) -> NoReturn:
    raise ProblemError(Problem("", ProblemCode.BAD_REQUEST, message))
