"""Parsed JSON to rows that fit a model's signature, without a pandas frame. Pure; it knows neither MLflow nor HTTP.

MLflow makes a frame of each request, casts it, then enforces the signature on it. What it makes of a value of the plainest
type that its column may have is known, so such requests are read here, in microseconds, and may share one frame with others.
Whatever is not certain to mean the same (a string for a number, a missing column, a date, a ragged list …) is answered
with None: then MLflow itself reads the request, and finds the words if it has to refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from operator import itemgetter
from typing import Any

import numpy as np

from model_worker.codec import Format, Payload


class Kind(StrEnum):
    """What a column holds; the names are those of MLflow's signatures."""

    DOUBLE = "double"
    FLOAT = "float"
    LONG = "long"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    STRING = "string"


#: How a column's values are stored; strings are left to pandas.
DTYPES: Mapping[Kind, str] = {
    Kind.DOUBLE: "float64",
    Kind.FLOAT: "float32",
    Kind.LONG: "int64",
    Kind.INTEGER: "int32",
    Kind.BOOLEAN: "bool",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One named column of a signature; of no kind, when only MLflow can read it."""

    name: str
    kind: Kind | None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Tensor:
    """A signature of one unnamed array, whose first dimension is the row."""

    dtype: str
    shape: tuple[int, ...]


#: None: the model has no signature, and the values decide.
Signature = tuple[Column, ...] | Tensor | None


@dataclass(frozen=True, slots=True)
class Layout:
    """What rows must have in common to be answered together: named columns, or arrays of one type and shape."""

    names: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    dtype: str = ""
    inner: tuple[int, ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether the rows have named columns."""
        return not self.dtype

    @property
    def is_matrix(self) -> bool:
        """Whether all columns are numbers that a matrix of doubles holds as a frame of them would be turned into one."""
        return bool(self.kinds) and set(self.kinds) <= _MATRIX


@dataclass(slots=True)  # not frozen: one is made for each request, and that would cost as much as the reading
class Rows:
    """One request's rows: sequences of values in the order of the layout's columns, or one array."""

    layout: Layout
    count: int
    values: Any


Reader = Callable[[Payload], Rows | None]


def reader(signature: Signature) -> Reader:
    """Reads the payloads of a model with this signature; None for each that only MLflow can read."""
    if signature is None:
        return _guarded(_Inferred().read)
    if isinstance(signature, Tensor):
        return _guarded(_Array(signature).read) if signature.shape[:1] == (-1,) else _nothing
    if not signature or any(column.kind is None for column in signature):
        return _nothing
    return _guarded(_Table(signature).read)


def is_finite(rows: Rows) -> bool:
    """Whether no number is missing, NaN or infinite."""
    if not rows.layout.is_table:
        return bool(np.isfinite(rows.values).all())
    try:
        return all(all(map(isfinite, row)) for row in rows.values)
    except TypeError:  # a None, or a column of strings
        return all(None not in row and all(type(v) is not float or isfinite(v) for v in row) for row in rows.values)


def matrix(rows: Sequence[Sequence[Any]]) -> np.ndarray[Any, Any]:
    """Rows of numbers as the array that a frame of them would be turned into: doubles, column by column in memory."""
    return np.array(rows, dtype=np.float64, order="F")


def arrays(layout: Layout, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The columns of a table by name: arrays of their types, or lists of strings."""
    columns = zip(*rows, strict=True)
    return {
        name: list(column) if kind is Kind.STRING else _array(kind, column)
        for name, kind, column in zip(layout.names, layout.kinds, columns, strict=True)
    }


_MATRIX = {Kind.DOUBLE, Kind.LONG, Kind.INTEGER}
#: Whole numbers up to here are the same as doubles, whatever they pass through on their way.
_EXACT = 2**53
_RANGES = {
    Kind.FLOAT: (-_EXACT, _EXACT),
    Kind.DOUBLE: (-_EXACT, _EXACT),
    Kind.LONG: (-(2**63), 2**63 - 1),
    Kind.INTEGER: (-(2**31), 2**31 - 1),
}
_NUMBERS = frozenset({float, int, type(None)})
_ONLY: Mapping[Kind, frozenset[type]] = {
    Kind.LONG: frozenset({int}),
    Kind.INTEGER: frozenset({int}),
    Kind.BOOLEAN: frozenset({bool}),
    Kind.STRING: frozenset({str}),
}
#: A client may send any columns; that many orders of them are remembered.
_MAX_PLANS = 64


def _array(kind: Kind, column: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    if kind is Kind.FLOAT:
        return np.array(column, dtype=np.float64).astype(np.float32)
    return np.array(column, dtype=DTYPES[kind])


def _guarded(read: Reader) -> Reader:
    def guarded(payload: Payload) -> Rows | None:
        try:
            return read(payload)
        except (TypeError, ValueError, KeyError, OverflowError, IndexError):
            return None  # MLflow will say what is wrong, if something is

    return guarded


def _nothing(payload: Payload) -> None:  # noqa: ARG001 - reads nothing of it
    return None


def _fits(kind: Kind, column: Iterable[Any]) -> bool:
    values = tuple(column)
    types = set(map(type, values))
    if kind is Kind.DOUBLE or kind is Kind.FLOAT:
        if not types <= _NUMBERS:
            return False
    elif types != _ONLY[kind]:
        return False
    if int in types:
        least, most = _RANGES[kind]
        return all(least <= value <= most for value in values if type(value) is int)
    return True


def _picker(indices: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """`itemgetter` that gives a tuple for one item too."""
    if len(indices) == 1:
        only = indices[0]
        return lambda row: (row[only],)
    return itemgetter(*indices)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How rows of one order of columns become rows of the layout."""

    layout: Layout
    width: int
    pick: Callable[[Any], tuple[Any, ...]] | None


class _Table:
    """A signature of named columns."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._columns = columns
        self._names = tuple(column.name for column in columns)
        kinds = tuple(column.kind for column in columns if column.kind is not None)
        self._layout = Layout(self._names, kinds)
        self._pick = _picker(self._names)
        self._doubles = set(kinds) == {Kind.DOUBLE}
        # `instances` and `inputs` go through numpy in MLflow, which has other ideas of the other types.
        self._through_numpy = set(kinds) <= {Kind.DOUBLE, Kind.LONG}
        self._plans: dict[tuple[str, ...], _Plan | None] = {}

    def read(self, payload: Payload) -> Rows | None:
        value = payload.value
        match payload.format:
            case Format.DATAFRAME_SPLIT:
                return self._split(value)
            case Format.DATAFRAME_RECORDS:
                return self._records(value) if type(value) is list else None
            case Format.INSTANCES if self._through_numpy and type(value) is list:
                return self._exact_records(value)
            case Format.INPUTS if self._through_numpy:
                if type(value) is list:
                    return self._exact_records(value)
                return self._by_column(value) if type(value) is dict else None
            case _:
                return None

    def _split(self, value: Any) -> Rows | None:
        if type(value) is not dict or value.keys() != {"columns", "data"}:
            return None
        names = tuple(value["columns"])
        try:
            plan = self._plans[names]
        except KeyError:
            plan = self._plan(names)
        if plan is None:
            return None
        rows = value["data"]
        width = plan.width
        if type(rows) is not list or any(type(row) is not list or len(row) != width for row in rows):
            return None
        if plan.pick is not None:
            rows = [plan.pick(row) for row in rows]
        return self._rows(plan.layout, rows)

    def _plan(self, names: tuple[str, ...]) -> _Plan | None:
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        plan = None
        if len(set(names)) == len(names) and all(type(name) is str for name in names):
            present = [column for column in self._columns if column.name in names]
            if present and all(column in present for column in self._columns if column.required):
                chosen = tuple(column.name for column in present)
                layout = Layout(chosen, tuple(column.kind for column in present if column.kind is not None))
                layout = self._layout if layout == self._layout else layout
                pick = None if chosen == names else _picker([names.index(name) for name in chosen])
                plan = _Plan(layout, len(names), pick)
        self._plans[names] = plan
        return plan

    def _records(self, records: list[Any]) -> Rows | None:
        if any(type(record) is not dict for record in records):
            return None
        return self._rows(self._layout, [self._pick(record) for record in records])

    def _exact_records(self, records: list[Any]) -> Rows | None:
        width = len(self._names)
        if any(type(record) is not dict or len(record) != width for record in records):
            return None
        return self._rows(self._layout, [self._pick(record) for record in records])

    def _by_column(self, value: dict[str, Any]) -> Rows | None:
        if len(value) != len(self._names):
            return None
        columns = self._pick(value)
        shapes = {type(column) for column in columns}
        if shapes == {list}:
            return self._rows(self._layout, list(zip(*columns, strict=True)))
        if shapes <= {float, int}:
            return self._rows(self._layout, [columns])
        return None

    def _rows(self, layout: Layout, rows: list[Any]) -> Rows | None:
        if not rows:
            return None
        if self._doubles:  # the usual case, without turning the rows into columns
            for row in rows:
                types = set(map(type, row))
                if not types <= _NUMBERS:
                    return None
                if int in types and any(type(value) is int and not -_EXACT <= value <= _EXACT for value in row):
                    return None
        elif not all(map(_fits, layout.kinds, zip(*rows, strict=True))):
            return None
        return Rows(layout, len(rows), rows)


class _Array:
    """A signature of one unnamed tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self._dtype = np.dtype(tensor.dtype)
        self._shape = tensor.shape

    def read(self, payload: Payload) -> Rows | None:
        if payload.format not in {Format.INSTANCES, Format.INPUTS} or not _is_plain_list(payload.value):
            return None
        array = np.array(payload.value, dtype=self._dtype)
        if array.ndim != len(self._shape) or any(
            want not in (-1, have) for want, have in zip(self._shape, array.shape, strict=True)
        ):
            return None
        return Rows(Layout(dtype=str(array.dtype), inner=array.shape[1:]), len(array), array)


class _Inferred:
    """No signature: pandas would take the types from the values, so these must leave no doubt."""

    def read(self, payload: Payload) -> Rows | None:
        value = payload.value
        match payload.format:
            case Format.DATAFRAME_SPLIT if type(value) is dict and value.keys() == {"columns", "data"}:
                return self._rows(tuple(value["columns"]), value["data"])
            case Format.DATAFRAME_RECORDS if type(value) is list and value and type(value[0]) is dict:
                names = tuple(value[0])
                if any(type(record) is not dict or tuple(record) != names for record in value):
                    return None
                return self._rows(names, [list(record.values()) for record in value])
            case Format.INSTANCES | Format.INPUTS if _is_plain_list(value):
                array = np.array(value)
                if array.dtype.kind not in "fi":
                    return None
                return Rows(Layout(dtype=str(array.dtype), inner=array.shape[1:]), len(array), array)
            case _:
                return None

    @staticmethod
    def _rows(names: tuple[Any, ...], rows: Any) -> Rows | None:
        if not rows or not names or len(set(names)) != len(names) or any(type(name) is not str for name in names):
            return None
        if type(rows) is not list or any(type(row) is not list or len(row) != len(names) for row in rows):
            return None
        kinds = tuple(_kind(column) for column in zip(*rows, strict=True))
        known = tuple(kind for kind in kinds if kind is not None)
        return Rows(Layout(names, known), len(rows), rows) if len(known) == len(kinds) else None


def _is_plain_list(value: Any) -> bool:
    return type(value) is list and bool(value) and type(value[0]) is not dict


def _kind(column: tuple[Any, ...]) -> Kind | None:
    types = set(map(type, column))
    for kind, only in ((Kind.DOUBLE, {float}), (Kind.LONG, {int}), (Kind.STRING, {str}), (Kind.BOOLEAN, {bool})):
        if types == only:
            return kind if _fits(kind, column) else None
    return Kind.DOUBLE if types == {float, int} and _fits(Kind.DOUBLE, column) else None
