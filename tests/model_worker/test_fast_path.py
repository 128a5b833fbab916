"""Whatever is sent, the fast path gives the model what MLflow would, or leaves the request to MLflow."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_worker import codec
from model_worker.batch import FastPath
from model_worker.codec import Format, InputError, Payload
from model_worker.columns import Column, Kind, Layout, Rows, Tensor, arrays, matrix, reader
from model_worker.fast import Ways, Wish, fast_path
from model_worker.model import ModelError
from tests.model_worker.saved_models import SavedModels

KINDS = ["double", "float", "long", "integer", "boolean", "string", "maybe double", "maybe string"]
number = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-10, 10),
    st.integers(),
    st.floats(width=32, allow_nan=False),
)
anything = st.one_of(number, st.none(), st.booleans(), st.text(max_size=3), st.just("1.5"), st.just([1]))
#: Mostly what fits, for most columns; else all requests would be refused.
VALUES = {
    "double": number,
    "float": number,
    "long": st.integers(-(2**63), 2**63 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "string": st.text(max_size=4),
    "maybe double": number | st.none(),
    "maybe string": st.text(max_size=4) | st.none(),
}


@st.composite
def requests(draw: st.DrawFn, columns: list[str], values: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """A request in any format with any columns, mostly such as fit."""
    chosen = draw(st.permutations(columns))
    if draw(st.integers(0, 4)) == 0:
        chosen = chosen[: draw(st.integers(0, len(chosen)))]
    if draw(st.integers(0, 4)) == 0:
        chosen = [*chosen, draw(st.sampled_from(["extra", *columns]))]
    odd = draw(st.sampled_from([None, None, None, *columns]))
    rows = [
        [draw(anything if name == odd else values.get(name, anything)) for name in chosen]
        for _ in range(draw(st.integers(0, 3)))
    ]
    match draw(st.sampled_from(["split", "split", "records", "instances", "inputs", "columns", "row"])):
        case "split":
            return {"dataframe_split": {"columns": chosen, "data": rows}}
        case "records":
            return {"dataframe_records": [dict(zip(chosen, row, strict=True)) for row in rows]}
        case "columns":
            return {"inputs": {name: [row[at] for row in rows] for at, name in enumerate(chosen)}}
        case "row" if rows:
            return {"inputs": dict(zip(chosen, rows[0], strict=True))}
        case form:
            form = "inputs" if form == "row" else form
            return {form: [dict(zip(chosen, row, strict=True)) for row in rows]}


class Loaded:
    """A model, and the two ways to ask it."""

    def __init__(self, models: SavedModels, name: str, wish: Wish) -> None:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("ignore")
            from model_worker.mlflow_model import load

            self.model = load(models(name))
            fast = self.model.fast_path(wish)
        assert fast is not None
        self.fast: FastPath = fast

    def compare(self, messages: list[dict[str, Any]]) -> None:
        """Those that the fast path reads get the plain path's answers from it, alone and together."""
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("ignore")
            payloads = [codec.decode_json(json.dumps(message).encode()) for message in messages]
            read: dict[Any, list[tuple[Rows, str | None]]] = {}
            for payload in payloads:
                rows = self.fast.read(payload)
                if rows is not None:
                    read.setdefault(rows.layout, []).append((rows, self._plain(payload)))
            for group in read.values():
                good = [(rows, answer) for rows, answer in group if answer is not None]
                for rows, answer in group:
                    # A failure is answered by the plain path; only for numbers too large for a model's floats.
                    alone = self._fast([rows])
                    assert alone == [answer] or answer is None or (alone == [None] and not _is_moderate(rows))
                if good and all(_is_moderate(rows) for rows, _ in good):
                    assert self._fast([rows for rows, _ in good]) == [answer for _, answer in good]

    def _plain(self, payload: Payload) -> str | None:
        try:
            return repr(codec.json_value(self.model.predict(payload)))
        except (InputError, ModelError):
            return None

    def _fast(self, batch: list[Rows]) -> list[str | None]:
        try:
            return [repr(answer) for answer in self.fast.predict(batch, None)]
        except Exception:  # noqa: BLE001 - whatever it is, the plain path answers
            return [None] * len(batch)


def _is_moderate(rows: Rows) -> bool:
    return all(type(value) is not float or abs(value) < 1e38 for row in rows.values for value in row)


@pytest.fixture(scope="module")
def kinds(models: SavedModels) -> Loaded:
    """A model that tells the types and values that it is given."""
    return Loaded(models, "kinds", Wish(on=True))


@pytest.fixture(scope="module", params=["linear", "forest", "xgboost"])
def numeric(request: pytest.FixtureRequest, models: SavedModels) -> Loaded:
    """Models of two doubles."""
    return Loaded(models, request.param, Wish())


relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@relaxed
@given(messages=st.lists(requests(KINDS, VALUES), min_size=1, max_size=4))
def test_a_model_is_given_what_mlflow_would_give_it(kinds: Loaded, messages: list[dict[str, Any]]) -> None:
    """Types, values, order of columns and optional columns are MLflow's, for whatever is read."""
    kinds.compare(messages)


@relaxed
@given(messages=st.lists(requests(["a", "b"], {"a": number, "b": number}), min_size=1, max_size=6))
def test_predictions_are_mlflows_in_every_bit(numeric: Loaded, messages: list[dict[str, Any]]) -> None:
    """Kernels, arrays and batches predict what the plain path predicts for each request alone."""
    numeric.compare(messages)


def test_gaps_join_no_batch_that_they_would_break(numeric: Loaded) -> None:
    """A missing number is read only for models that take it as the plain path does."""
    payload = codec.decode_json(b'{"dataframe_split": {"columns": ["a", "b"], "data": [[null, 1.0]]}}')
    rows = numeric.fast.read(payload)
    assert rows is None or numeric._fast([rows]) == [numeric._plain(payload)]


COLUMNS = (Column("a", Kind.DOUBLE), Column("n", Kind.LONG), Column("s", Kind.STRING, required=False))


@given(
    st.lists(st.tuples(number, st.integers(-(2**63), 2**63 - 1), st.text()), min_size=1, max_size=5),
    st.permutations([0, 1, 2]),
)
def test_rows_survive_every_layout(rows: list[tuple[Any, ...]], order: list[int]) -> None:
    """Split in any order and records are the same rows."""
    names = [column.name for column in COLUMNS]
    read = reader(COLUMNS)
    split = {"columns": [names[at] for at in order], "data": [[row[at] for at in order] for row in rows]}
    records = [{names[at]: row[at] for at in order} for row in rows]
    found = [read(Payload(Format.DATAFRAME_SPLIT, split)), read(Payload(Format.DATAFRAME_RECORDS, records))]
    exact = all(abs(row[0]) <= 2**53 for row in rows if isinstance(row[0], int))
    if not exact:
        assert found == [None, None]
        return
    for each in found:
        assert each is not None
        assert each.count == len(rows)
        columns = arrays(each.layout, each.values)
        assert columns["a"].tolist() == [float(row[0]) for row in rows]
        assert columns["n"].tolist() == [row[1] for row in rows]
        assert columns["s"] == [row[2] for row in rows]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"columns": ["a", "n"], "data": None},
        {"columns": ["a", "n"], "data": [[1.0, 2], [1.0]]},
        {"columns": ["a", "n"], "data": [[1.0, "2"]]},
        {"columns": ["a", "n"], "data": [[1.0, True]]},
        {"columns": ["a", "a"], "data": [[1.0, 2]]},
        {"columns": ["a", ["n"]], "data": [[1.0, 2]]},
        {"columns": ["a"], "data": [[1.0]]},
        {"columns": 5, "data": [[1.0]]},
        {"columns": ["a", "n"], "data": [[1.0, 2]], "index": [3]},
        {"columns": ["a", "n"], "data": []},
        {"columns": ["a", "n"], "data": [{"a": 1.0, "n": 2}]},
    ],
)
def test_what_is_in_doubt_is_left_to_mlflow(value: Any) -> None:
    """Anything odd is read as nothing, never as something else."""
    assert reader(COLUMNS)(Payload(Format.DATAFRAME_SPLIT, value)) is None
    assert reader(())(Payload(Format.DATAFRAME_SPLIT, value)) is None
    assert reader(Tensor("float64", (3, 2)))(Payload(Format.INPUTS, value)) is None


def test_orders_of_columns_are_not_remembered_without_end() -> None:
    """A client that sends ever new columns fills no memory."""
    read = reader((Column("a", Kind.DOUBLE),))
    for extra in range(200):
        rows = read(Payload(Format.DATAFRAME_SPLIT, {"columns": [str(extra), "a"], "data": [["x", 1.0]]}))
        assert rows == Rows(Layout(("a",), (Kind.DOUBLE,)), 1, [(1.0,)])


def test_no_signature_means_the_values_decide() -> None:
    """Columns of one plain type are read as pandas would type them; mixed ones are left to it."""
    read = reader(None)
    rows = read(Payload(Format.DATAFRAME_RECORDS, [{"x": 1, "y": 2.5, "z": "s", "t": True}]))
    assert rows is not None
    assert rows.layout.kinds == (Kind.LONG, Kind.DOUBLE, Kind.STRING, Kind.BOOLEAN)
    assert read(Payload(Format.DATAFRAME_RECORDS, [{"x": 1}, {"x": "s"}])) is None
    array = read(Payload(Format.INSTANCES, [[1, 2], [3, 4]]))
    assert array is not None
    assert array.layout == Layout(dtype="int64", inner=(2,))


# The choice of a way


def doubled(data: Any, params: Any = None) -> Any:
    """Twice the sum of each row."""
    return np.asarray(data, dtype=float).sum(axis=1) * 2


def plain(payload: Payload) -> Any:
    """The plain path of a model that doubles."""
    return doubled(payload.value["data"])


SIGNATURE = (Column("a", Kind.DOUBLE), Column("b", Kind.DOUBLE))
ROW = Payload(Format.DATAFRAME_SPLIT, {"columns": ["a", "b"], "data": [[1.0, 2.0]]})


def rows_of(fast: FastPath, payload: Payload = ROW) -> Rows:
    """What the fast path reads of a payload."""
    rows = fast.read(payload)
    assert rows is not None
    return rows


def test_a_way_that_answers_otherwise_is_dropped() -> None:
    """A native predict that is off by one bit is not used, and the next way is."""
    used = []

    def native(array: Any) -> Any:
        return np.nextafter(doubled(array), math.inf)

    def direct(frame: Any) -> Any:
        used.append(type(frame))
        return doubled(frame)

    fast = fast_path(SIGNATURE, plain, Ways(doubled, True, True, direct, native), Wish())
    assert fast is not None
    used.clear()
    assert fast.predict([rows_of(fast)], None) == [[6.0]]
    assert used == [pd.DataFrame]
    assert fast.cost is not None


def test_rows_that_depend_on_their_company_are_not_joined() -> None:
    """A model whose last bits depend on the size of the batch is asked for one request at a time, unless told otherwise."""

    def moody(data: Any, params: Any = None) -> Any:
        return doubled(data) + (1e-12 if len(data) > 20 else 0.0)

    for wish, max_rows in ((Wish(), 1), (Wish(on=True), 256), (Wish(True, 7), 7), (Wish(on=False), 1)):
        fast = fast_path(SIGNATURE, plain, Ways(moody, True, False, moody), wish)
        assert fast is not None
        assert (fast.max_rows, fast.cost) == (max_rows, None)
        assert fast.predict([rows_of(fast)] * 3, None) == [[6.0]] * 3


def test_unknown_code_is_not_tried_and_joined_only_on_demand() -> None:
    """What a model of unknown code does is its author's to know."""
    calls = []

    def unknown(data: Any, params: Any = None) -> Any:
        calls.append(len(data))
        return doubled(data)

    assert fast_path(SIGNATURE, plain, Ways(unknown), Wish()) is None
    assert fast_path(SIGNATURE, plain, Ways(unknown), Wish(on=False)) is None
    fast = fast_path(SIGNATURE, plain, Ways(unknown), Wish(on=True))
    assert fast is not None
    assert calls == []
    assert fast.predict([rows_of(fast)] * 2, None) == [[6.0]] * 2
    assert calls == [2]


def test_a_model_that_answers_no_made_up_row_takes_the_plain_path() -> None:
    """Without proof there is no fast path, unless the served entity asks for it."""

    def refuses(payload: Payload) -> Any:
        raise ValueError

    ways = Ways(doubled, row_wise=True, direct=doubled)
    assert fast_path(SIGNATURE, refuses, ways, Wish()) is None
    forced = fast_path(SIGNATURE, refuses, ways, Wish(on=True))
    assert forced is not None
    assert forced.max_rows > 1


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("", Wish()),
        ("auto", Wish()),
        ("ON", Wish(True)),
        ("off", Wish(False)),
        ("64", Wish(True, 64)),
        ("1", Wish(False, 1)),
    ],
)
def test_the_wish_is_read(text: str, wish: Wish) -> None:
    """WYE_BATCH is auto, on, off or a number of rows."""
    assert Wish.from_text(text) == wish


@pytest.mark.parametrize("text", ["maybe", "0", "-1", "1.5"])
def test_a_wish_that_means_nothing_is_refused(text: str) -> None:
    """The words say what to set."""
    with pytest.raises(ValueError, match="set it to auto, on, off, or the most rows of a batch"):
        Wish.from_text(text)


def test_matrices_are_laid_out_as_frames_are() -> None:
    """Column by column, for the last bits of a matrix product depend on it."""
    assert matrix([[1, 2.5], [None, 4]]).flags.f_contiguous
