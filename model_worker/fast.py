"""Which way around MLflow gives the same predictions? Tried on the model itself, before it is taken.

`fast_path` is given the plain path, the shorter ways that there may be, and rows to try them on. A way that answers one
row or several in any other bit is dropped. Requests are joined only if no row's prediction depends on what is beside it:
matrix products differ in the last bit by the size of the matrix, and then a batch is predicted request by request.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import thread_time
from typing import Any

import numpy as np
import pandas as pd

from model_worker import codec
from model_worker.batch import MAX_ROWS, Cost, FastPath, UnsplittableError
from model_worker.codec import Format, Payload
from model_worker.columns import Column, Kind, Layout, Rows, Signature, Tensor, arrays, is_finite, matrix, reader
from model_worker.native import Kernel

_logger = logging.getLogger(__name__)

#: Rows that are answered by the plain path too, and rows that only tell whether batches matter.
_COMPARED = 6
_TRIED = 40
#: Sizes of batches that are tried; BLAS changes its ways at some.
_SIZES = (2, 3, 5, 8, 19, 64, 256)
#: Seconds for the single rows of slow models: fewer are tried then, but so many at least.
_PATIENCE = 0.3
_FEWEST = 8

#: Predictions of some requests, a JSON value for each, given their parameters.
Predict = Callable[[Sequence[Rows], Any], list[Any]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the served entity's `WYE_BATCH` says about batching."""

    #: None: as the model's flavour allows.
    on: bool | None = None
    max_rows: int = MAX_ROWS

    @classmethod
    def from_text(cls, text: str) -> Wish:
        """What the variable means.

        Raises ValueError, in words for whoever set it.
        """
        word = text.strip().lower()
        if word in {"", "auto"}:
            return cls()
        if word in {"on", "off"}:
            return cls(word == "on")
        if re.fullmatch(r"[1-9][0-9]{0,5}", word):
            return cls(int(word) > 1, int(word))
        raise ValueError(f"WYE_BATCH is {text!r}: set it to auto, on, off, or the most rows of a batch")


@dataclass(frozen=True, slots=True)
class Ways:
    """How a model can be asked, besides the plain path."""

    #: The whole of what MLflow does with a frame or an array that is read already.
    enforced: Callable[[Any, Any], Any]
    #: Rows do not depend on each other, as far as its flavour says.
    row_wise: bool = False
    #: It runs no code but well-known libraries', so that it takes no longer tomorrow than it does in a trial.
    trusted: bool = False
    #: The flavour's own predict, for input that fits the signature.
    direct: Callable[[Any], Any] | None = None
    #: The native predict, which takes an array for a frame of numbers.
    native: Callable[[Any], Any] | None = None
    kernel: Kernel | None = None


def fast_path(
    signature: Signature, plain: Callable[[Payload], Any], ways: Ways, wish: Wish, example: Any = None
) -> FastPath | None:
    """The best way that answers as `plain` does; None when requests must take `plain` itself."""
    if not ways.row_wise:
        if not wish.on:
            return None
        # No trial: it would run unknown code on rows that nobody sent.
        _logger.info("fast path: requests joined, because WYE_BATCH says so")
        return FastPath(reader(signature), _joined(ways.enforced), wish.max_rows)
    trial = _Trial(signature, plain, example)
    for name, predict, layouts in _candidates(ways, trial.layout):
        if trial.equal(predict):
            joined = wish.on is not False and (trial.independent(predict) or (wish.on is True and trial.joins(predict)))
            cost = trial.cost(predict) if ways.trusted else None
            _logger.info("fast path: %s, requests %s, %s", name, "joined" if joined else "answered one by one", cost)
            return FastPath(
                trial.reader(layouts, only_finite=not trial.takes_gaps(predict)),
                _with_params(predict if joined else _one_by_one(predict), ways.enforced),
                wish.max_rows if joined else 1,
                cost,
            )
    if wish.on:
        _logger.info("fast path: requests joined, because WYE_BATCH says so; it could not be tried for lack of rows")
        return FastPath(trial.reader(None), _joined(ways.enforced), wish.max_rows)
    _logger.info("no fast path: log the model with an input_example, so that it can be tried")
    return None


def _candidates(ways: Ways, layout: Layout | None) -> list[tuple[str, Predict, Layout | None]]:
    """Name, way and the only layout that it is for, the shortest way first."""
    found: list[tuple[str, Predict, Layout | None]] = []
    if layout is not None and (layout.is_matrix or (layout.dtype == "float64" and len(layout.inner) == 1)):
        if ways.kernel is not None:
            found.append(("kernel", _by_kernel(ways.kernel), layout))
        if ways.native is not None and layout.is_table:
            found.append(("array", _by_matrix(ways.native), layout))
    if ways.direct is not None:
        direct = ways.direct
        found.append(("frame", _joined(lambda data, params: direct(data)), None))  # noqa: ARG005 - it takes none
    found.append(("enforced", _joined(ways.enforced), None))
    return found


# Ways


def _joined(predict: Callable[[Any, Any], Any]) -> Predict:
    """All rows in one frame, or one array."""

    def together(batch: Sequence[Rows], params: Any) -> list[Any]:
        return _shared(predict(_data(batch), params), batch)

    return together


def _by_matrix(predict: Callable[[Any], Any]) -> Predict:
    def together(batch: Sequence[Rows], params: Any) -> list[Any]:  # noqa: ARG001 - it takes none
        return _shared(predict(matrix(_values(batch))), batch)

    return together


def _by_kernel(kernel: Kernel) -> Predict:
    def together(batch: Sequence[Rows], params: Any) -> list[Any]:  # noqa: ARG001 - it takes none
        if batch[0].layout.is_table:
            if len(batch) > 1 and all(rows.count == 1 for rows in batch):
                all_rows = matrix(_values(batch))
                matrices = [all_rows[number : number + 1] for number in range(len(batch))]
            else:
                matrices = [matrix(rows.values) for rows in batch]
        else:
            matrices = [rows.values for rows in batch]
        return [found.tolist() for found in kernel(matrices)]

    return together


def _one_by_one(predict: Predict) -> Predict:
    def alone(batch: Sequence[Rows], params: Any) -> list[Any]:
        return [predict([rows], params)[0] for rows in batch]

    return alone


def _with_params(predict: Predict, enforced: Callable[[Any, Any], Any]) -> Predict:
    """Requests with parameters go through MLflow, which knows what becomes of them."""
    by_enforced = _joined(enforced)

    def either(batch: Sequence[Rows], params: Any) -> list[Any]:
        return predict(batch, None) if not params else by_enforced(batch, params)

    return either


def _values(batch: Sequence[Rows]) -> list[Any]:
    return batch[0].values if len(batch) == 1 else [row for rows in batch for row in rows.values]


def _data(batch: Sequence[Rows]) -> Any:
    layout = batch[0].layout
    if layout.is_table:
        return pd.DataFrame(arrays(layout, _values(batch)))
    return batch[0].values if len(batch) == 1 else np.concatenate([rows.values for rows in batch])


def _shared(predictions: Any, batch: Sequence[Rows]) -> list[Any]:
    """Each request's part of the predictions; raises UnsplittableError."""
    value = codec.json_value(predictions)
    if len(batch) == 1:
        return [value]
    if not isinstance(value, list) or len(value) != sum(rows.count for rows in batch):
        raise UnsplittableError("the predictions are not one for each row")
    parts, start = [], 0
    for rows in batch:
        parts.append(value[start : start + rows.count])
        start += rows.count
    return parts


# The trial


class _Trial:
    """Rows that fit the signature, and what the plain path says of them."""

    def __init__(self, signature: Signature, plain: Callable[[Payload], Any], example: Any) -> None:
        self._read = reader(signature)
        made = _rows(signature, example)
        names = _names(signature, example)
        payloads = [_payload(names, [row]) for row in made]
        read = [self._read(payload) for payload in payloads]
        self._rows = [rows for rows in read if rows is not None]
        self.layout = self._rows[0].layout if self._rows else None
        self._rows = [rows for rows in self._rows if rows.layout == self.layout]
        #: Requests and the plain path's answers.
        self.expected: list[tuple[Rows, str]] = []
        good: list[Any] = []
        for row, payload, rows in zip(made[:_COMPARED], payloads, read, strict=False):
            if rows is not None and rows.layout == self.layout and self._expect(plain, payload, rows):
                good.append(row)
        if len(good) > 1:
            payload = _payload(names, good)
            several = self._read(payload)
            if several is not None and several.layout == self.layout:
                self._expect(plain, payload, several)
        self._gap = self._with_gap(plain, names, good)

    def _with_gap(
        self, plain: Callable[[Payload], Any], names: list[str] | None, good: list[Any]
    ) -> tuple[Rows, str] | None:
        """A row with a number missing, and what the plain path says of it, if it takes one."""
        gaps = {Kind.DOUBLE, Kind.FLOAT}
        at = next((at for at, kind in enumerate(self.layout.kinds if self.layout else ()) if kind in gaps), None)
        if at is None or not good:
            return None
        payload = _payload(names, [[*good[0][:at], float("nan"), *good[0][at + 1 :]]])
        rows = self._read(payload)
        if rows is None or not self._expect(plain, payload, rows):
            return None
        return self.expected.pop()

    def takes_gaps(self, predict: Predict) -> bool:
        """Whether it answers a row with a missing number, and as the plain path does."""
        try:
            return self._gap is not None and _exactly(predict([self._gap[0]], None)[0]) == self._gap[1]
        except Exception:  # noqa: BLE001 - then it does not
            return False

    def _expect(self, plain: Callable[[Payload], Any], payload: Payload, rows: Rows) -> bool:
        try:
            self.expected.append((rows, _exactly(codec.json_value(plain(payload)))))
        except Exception:  # noqa: BLE001 - made-up rows may be such as no model takes
            return False
        return True

    def equal(self, predict: Predict) -> bool:
        """Whether it answers each request alone as the plain path does."""
        try:
            return bool(self.expected) and all(
                _exactly(predict([rows], None)[0]) == answer for rows, answer in self.expected
            )
        except Exception:  # noqa: BLE001 - then it is no way
            return False

    def independent(self, predict: Predict) -> bool:
        """Whether every answer is the same in every company."""
        several = [rows for rows, _ in self.expected]
        try:
            took = _seconds(lambda: predict(several[:1], None))
            requests = (several + self._rows)[: max(_FEWEST, int(_PATIENCE / (took + 1e-9)))]
            alone = [_exactly(predict([rows], None)[0]) for rows in requests]
            for size in _SIZES:
                chosen = [(size + number) % len(requests) for number in range(size)]
                together = predict([requests[number] for number in chosen], None)
                if [_exactly(value) for value in together] != [alone[number] for number in chosen]:
                    return False
        except Exception:  # noqa: BLE001 - for instance a model that takes one row at a time
            return False
        return True

    def joins(self, predict: Predict) -> bool:
        """Whether it can answer several requests at once, be it with other last bits."""
        try:
            return len(predict([rows for rows, _ in self.expected], None)) == len(self.expected)
        except Exception:  # noqa: BLE001 - for instance an answer that is not one for each row
            return False

    def cost(self, predict: Predict) -> Cost | None:
        """What one row and many take."""
        few, many = [self._rows[0]], [self._rows[number % len(self._rows)] for number in range(64)]
        try:
            least = [min(_seconds(lambda batch=batch: predict(batch, None)) for _ in range(3)) for batch in (few, many)]  # type: ignore[misc]
        except Exception:  # noqa: BLE001 - it cannot take as many at once
            return None
        row = max(0.0, least[1] - least[0]) / (len(many) - 1)
        return Cost(least[0], row)

    def reader(self, layout: Layout | None, *, only_finite: bool = False) -> Callable[[Payload], Rows | None]:
        """Reads what has this layout, or any; `only_finite` what would not make others' batch fail for its gaps."""
        read = self._read

        def chosen(payload: Payload) -> Rows | None:
            rows = read(payload)
            if rows is None or (layout is not None and rows.layout != layout) or (only_finite and not is_finite(rows)):
                return None
            return rows

        return chosen


def _seconds(work: Callable[[], Any]) -> float:
    started = thread_time()  # others may keep the processor busy
    work()
    return thread_time() - started


def _exactly(value: Any) -> str:
    """The value's every bit."""
    return repr(value)


def _payload(names: list[str] | None, rows: list[Any]) -> Payload:
    if names is None:
        return Payload(Format.INPUTS, rows)
    return Payload(Format.DATAFRAME_SPLIT, {"columns": names, "data": rows})


def _names(signature: Signature, example: Any) -> list[str] | None:
    if isinstance(signature, tuple):
        return [column.name for column in signature]
    if signature is None and isinstance(example, pd.DataFrame):
        return [str(name) for name in example.columns]
    return None


def _rows(signature: Signature, example: Any) -> list[Any]:
    """Rows to try: the example's, and variations that the signature allows. The same ones each time."""
    source = random.Random(7)  # noqa: S311 - nothing to guess
    rows: list[Any] = []
    if isinstance(signature, Tensor):
        if any(size < 1 for size in signature.shape[1:]):
            return []
        given = np.asarray(example).astype(signature.dtype).tolist() if isinstance(example, np.ndarray) else []
        shape = (_TRIED, *signature.shape[1:])
        made = np.random.default_rng(7).normal(0, 3, shape).astype(signature.dtype).tolist()
        return [*given[: _COMPARED // 2], *made]
    frame = example if isinstance(example, pd.DataFrame) else pd.DataFrame()
    if signature is None:
        rows = frame.to_numpy().tolist()
        signature = tuple(Column(str(name), _kind_of(frame[name])) for name in frame.columns)
    else:
        wanted = [column.name for column in signature]
        if all(name in frame.columns for name in wanted):
            rows = frame[wanted].astype(object).to_numpy().tolist()
    rows = rows[: _COMPARED // 2]
    for _ in range(_TRIED if signature else 0):
        base = source.choice(rows) if rows else [None] * len(signature)
        row = [_value(column.kind, given, source) for column, given in zip(signature, base, strict=True)]
        if any(value is None for value in row):
            break  # a word that the model knows cannot be made up
        rows.append(row)
    return rows


def _kind_of(series: Any) -> Kind | None:
    return {"f": Kind.DOUBLE, "i": Kind.LONG, "b": Kind.BOOLEAN}.get(series.dtype.kind, Kind.STRING)


def _value(kind: Kind | None, given: Any, source: random.Random) -> Any:
    match kind:
        case Kind.DOUBLE | Kind.FLOAT:
            value = source.gauss(0, 3) + (given if isinstance(given, float | int) else 0)
            return float(np.float32(value)) if kind is Kind.FLOAT else value
        case Kind.LONG | Kind.INTEGER:
            return source.randrange(0, 10) if given is None else max(0, int(given) + source.randrange(-2, 3))
        case Kind.BOOLEAN:
            return source.random() < 0.5
        case _:
            return given if isinstance(given, str) else None
