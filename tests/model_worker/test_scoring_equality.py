"""The same inputs and the same predictions as MLflow's own scoring server, and better errors."""

from __future__ import annotations

import asyncio
import io
import json
import math
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pandas as pd
import pytest

from model_worker.admission import MOST, Queue
from model_worker.batch import FastPath
from model_worker.fast import Wish
from model_worker.service import Service
from tests.model_worker.saved_models import SavedModels

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"


@dataclass
class Ours:
    """An answer of our service, in the words of an HTTP client."""

    status_code: int
    text: str
    content_type: str
    #: Whether the request went around MLflow.
    fast: bool = False

    def json(self) -> Any:
        """The body."""
        return json.loads(self.text)


class BothServers:
    """A model behind MLflow's FastAPI application and behind our service, in this process."""

    def __init__(self, models: SavedModels) -> None:
        self._models = models
        self._pool = ThreadPoolExecutor(1)
        self._loaded: dict[str, tuple[Any, Any, FastPath | None]] = {}

    def ask(self, model: str, body: bytes, content_type: str | None) -> tuple[httpx.Response, Ours]:
        """What MLflow answers, and what we do."""
        mlflows, _, _ = self._load(model)
        return asyncio.run(self._post(mlflows, body, content_type)), self.ask_ours(model, [body], content_type)[0]

    def ask_ours(self, model: str, bodies: list[bytes], content_type: str | None, accept: str = "") -> list[Ours]:
        """What we answer when these requests come at once."""
        _, ours, fast = self._load(model)

        async def asked() -> list[Ours]:
            service = Service(ours, self._pool, queue=Queue(requests=MOST))  # refuses nobody, however slow the machine
            if fast is not None:
                service.use(fast, self._pool)
            replies = await asyncio.gather(*(service.ask(body, content_type, accept) for body in bodies))
            joined = "model_batch_requests_count 0" not in service.metrics.text()
            return [
                Ours(reply.status, reply.body.decode("utf-8", "replace"), reply.content_type, joined)
                for reply in replies
            ]

        with warnings.catch_warnings(record=True):
            warnings.simplefilter("ignore")
            return asyncio.run(asked())

    def _load(self, model: str) -> tuple[Any, Any, FastPath | None]:
        if model not in self._loaded:
            path = self._models(model)
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("ignore")
                import mlflow.pyfunc
                from mlflow.pyfunc import scoring_server

                from model_worker.mlflow_model import load

                theirs = scoring_server.init(mlflow.pyfunc.load_model(str(path)))
                ours = load(path)
                # Unknown code is batched only on demand; here, to see that it could be.
                wish = Wish(on=True) if model in {"kinds", "parameters", "from_code", "dated"} else Wish()
                self._loaded[model] = theirs, ours, ours.fast_path(wish)
        return self._loaded[model]

    @staticmethod
    async def _post(app: Any, body: bytes, content_type: str | None) -> httpx.Response:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("ignore")
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
                headers = {} if content_type is None else {"content-type": content_type}
                return await client.post("/invocations", content=body, headers=headers)

    def close(self) -> None:
        """Leave no thread."""
        self._pool.shutdown()


@pytest.fixture(scope="module")
def servers(models: SavedModels) -> Iterator[BothServers]:
    """Both servers for each model, loaded once."""
    both = BothServers(models)
    yield both
    both.close()


def without_nan(value: Any) -> Any:
    """What JSON can say of a value that Python's reader took from MLflow: NaN and infinity are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return value


def split(columns: list[str], *rows: list[Any], **more: Any) -> dict[str, Any]:
    """A dataframe_split request."""
    return {"dataframe_split": {"columns": columns, "data": list(rows)}} | more


def parquet(frame: pd.DataFrame) -> bytes:
    """The frame as a Parquet file."""
    file = io.BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


AB = ["a", "b"]
PERSON = ["city", "age", "member", "score"]
KINDS = ["double", "float", "long", "integer", "boolean", "string"]

#: name: (model, request). Requests that are not bytes are sent as JSON.
SAME: dict[str, tuple[str, Any]] = {
    "split": ("linear", split(AB, [1.0, 2.0], [3.0, 4.0])),
    "split with an index": ("linear", {"dataframe_split": {"columns": AB, "data": [[1.0, 2.0]], "index": [7]}}),
    "split in another order of columns": ("linear", split(["b", "a"], [2.0, 1.0])),
    "split without columns": ("linear", {"dataframe_split": {"data": [[1.0, 2.0]]}}),
    "split with an extra column": ("linear", split(["a", "b", "c"], [1.0, 2.0, 3.0])),
    "split with an extra key": ("linear", {"dataframe_split": {"columns": AB, "data": [[1, 2]], "more": 1}}),
    "split of no rows": ("linear", split(AB)),
    "split with uneven rows": ("linear", split(AB, [1.0, 2.0], [3.0])),
    "records": ("linear", {"dataframe_records": [{"a": 1.0, "b": 2.0}, {"b": 4.0, "a": 3.0}]}),
    "records that are no list": ("linear", {"dataframe_records": {"a": 1.0, "b": 2.0}}),
    "instances by name": ("linear", {"instances": [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]}),
    "instances by position": ("linear", {"instances": [[1.0, 2.0], [3.0, 4.0]]}),
    "inputs by column": ("linear", {"inputs": {"a": [1.0, 3.0], "b": [2.0, 4.0]}}),
    "inputs of one row": ("linear", {"inputs": {"a": 1.0, "b": 2.0}}),
    "inputs as records": ("linear", {"inputs": [{"a": 1.0, "b": 2.0}]}),
    "integers for doubles": ("linear", split(AB, [1, 2])),
    "booleans for doubles": ("linear", split(AB, [True, False])),
    "numbers as strings": ("linear", split(AB, ["1.5", "2"])),
    "words for numbers": ("linear", split(AB, ["one", "two"])),
    "null for a number": ("linear", split(AB, [None, 2.0])),
    "a bare NaN": ("classifier", b'{"dataframe_split": {"columns": ["a", "b"], "data": [[NaN, 2.0]]}}'),
    "a missing column": ("linear", split(["a"], [1.0])),
    "an integer of many digits": ("linear", split(AB, [10**30, 2.0])),
    "params that the model does not know": ("linear", split(AB, [1.0, 2.0], params={"x": 1})),
    "a client's request id": ("linear", split(AB, [1.0, 2.0], client_request_id="7")),
    "an unknown key beside": ("linear", split(AB, [1.0, 2.0], whatever=1)),
    "two formats": ("linear", split(AB, [1.0, 2.0], inputs={"a": [1.0], "b": [2.0]})),
    "no format": ("linear", {"columns": AB, "data": [[1, 2]]}),
    "a list": ("linear", [[1, 2]]),
    "a string": ("linear", "split"),
    "csv": ("linear", (b"a,b\n1,2\n3,4\n", CSV)),
    "csv in another order with more columns": ("linear", (b"c,b,a\nx,2,1\n", CSV)),
    "csv without a column": ("linear", (b"a\n1\n", CSV)),
    "csv with words": ("linear", (b"a,b\nx,y\n", CSV)),
    "csv with a gap": ("classifier", (b"a,b\n,2\n", CSV)),
    "csv of nothing": ("linear", (b"", CSV)),
    "csv that is not UTF-8": ("linear", (b"a,b\n\xff,1\n", CSV)),
    "csv with a charset": ("linear", (b"a,b\n1,2\n", "text/csv; charset=utf-8")),
    "parquet": ("linear", (parquet(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})), PARQUET)),
    "parquet that is none": ("linear", (b"PAR1 or not", PARQUET)),
    "json with a charset": ("linear", (json.dumps(split(AB, [1, 2])).encode(), "application/json; charset=UTF-8")),
    "json that is not UTF-8": ("linear", (b'{"inputs": "\xff"}', JSON)),
    "json in another charset": (
        "linear",
        (json.dumps(split(AB, [1, 2])).encode(), "application/json; charset=latin-1"),
    ),
    "no signature, split": ("classifier", split(AB, [1.0, 2.0], [15.0, 4.0])),
    "no signature, instances": ("classifier", {"instances": [[1.0, 2.0]]}),
    "no signature, strings": ("classifier", split(AB, ["x", "y"])),
    "mixed types": ("pipeline", split(PERSON, ["Rome", 2, True, 1.0], ["Oslo", 3, False, 2.0])),
    "mixed types, records": (
        "pipeline",
        {"dataframe_records": [dict(zip(PERSON, ["Rome", 2, True, 1.0], strict=True))]},
    ),
    "an unseen category": ("pipeline", split(PERSON, ["Paris", 2, True, 1.0])),
    "a double for a long": ("pipeline", split(PERSON, ["Rome", 2.5, True, 1.0])),
    "a whole double for a long": ("pipeline", split(PERSON, ["Rome", 2.0, True, 1.0])),
    "an integer for a boolean": ("pipeline", split(PERSON, ["Rome", 2, 1, 1.0])),
    "an integer for a string": ("pipeline", split(PERSON, [5, 2, True, 1.0])),
    "null for a string": ("pipeline", split(PERSON, [None, 2, True, 1.0])),
    "null for a long": ("pipeline", split(PERSON, ["Rome", None, True, 1.0])),
    "mixed types, csv": ("pipeline", (b"city,age,member,score\nRome,2,True,1.0\n", CSV)),
    "tensor, instances": ("tensor", {"instances": [[1.0, 2.0], [3.0, 4.0]]}),
    "tensor, inputs": ("tensor", {"inputs": [[1.0, 2.0]]}),
    "tensor of integers": ("tensor", {"inputs": [[1, 2]]}),
    "tensor of another shape": ("tensor", {"inputs": [[1.0, 2.0, 3.0]]}),
    "tensor as a frame": ("tensor", {"dataframe_split": {"columns": ["0", "1"], "data": [[1.0, 2.0]]}}),
    "xgboost": ("xgboost", split(AB, [1.0, 2.0], [3.0, None])),
    "lightgbm": ("lightgbm", split(AB, [1.0, 2.0], [3.0, 4.0])),
    "catboost": ("catboost", split(AB, [1.0, 2.0], [3.0, 4.0])),
    "catboost, null": ("catboost", split(AB, [None, 2.0])),
    "catboost, classes": ("catboost_classifier", split([*AB, "city"], [1.0, 2.0, "Rome"], [17.0, 4.0, "Paris"])),
    "catboost, integer for a word": ("catboost_classifier", split([*AB, "city"], [1.0, 2.0, 5])),
    "forest": ("forest", split(AB, [1.0, 2.0], [3.0, 4.0])),
    "forest, null": ("forest", split(AB, [None, 2.0])),
    "forest, too large": ("forest", split(AB, [1e300, 2.0])),
    "forest of classes": ("forest_classifier", split(AB, [1.0, 2.0], [17.0, 4.0])),
    "probabilities": ("scaled", split([*AB, "n"], [1.0, 2.0, 3], [9.5, 4.0, 11])),
    "probabilities, one row": ("scaled", split([*AB, "n"], [1.0, 2.0, 3])),
    "two outputs": ("two_outputs", split(AB, [1.0, 2.0], [3.0, 4.0])),
    "onnx": ("onnx", split(AB, [1.0, 2.0], [3.0, 4.5])),
    "onnx, null": ("onnx", split(AB, [1.0, None])),
    "statsmodels": ("statsmodels", split(AB, [1.0, 2.0], [3.0, 4.5])),
    "statsmodels, instances": ("statsmodels", {"instances": [{"a": 1.0, "b": 2.0}]}),
    "datetimes": ("dated", split(["when", "value"], ["2024-01-02", 1.0], ["2025-01-02T03:04:05", 2.0])),
    "no datetime": ("dated", split(["when", "value"], ["soon", 1.0])),
    "a null datetime": ("dated", split(["when", "value"], [None, 1.0])),
    "all kinds": ("kinds", split(KINDS, [1.5, 0.1, 3, 4, True, "x"])),
    "all kinds, records": ("kinds", {"dataframe_records": [dict(zip(KINDS, [1, 2, 3, 4, True, "x"], strict=True))]}),
    "an optional column": ("kinds", split([*KINDS, "maybe double"], [1.5, 0.1, 3, 4, True, "x", 7])),
    "an optional column, null": ("kinds", split([*KINDS, "maybe double"], [1.5, 0.1, 3, 4, True, "x", None])),
    "an integer out of range": ("kinds", split(KINDS, [1.5, 0.1, 3, 2**31, True, "x"])),
    "a long out of range": ("kinds", split(KINDS, [1.5, 0.1, 2**63, 4, True, "x"])),
    "a double in fact an integer of 60 bits": ("kinds", split(KINDS, [2**60 + 1, 2**60 + 1, 3, 4, True, "x"])),
    "inputs of all kinds": ("kinds", {"inputs": dict(zip(KINDS, [1.5, 0.1, 3, 4, True, "x"], strict=True))}),
    "a frame as the answer": ("from_code", split(AB, [1.0, 2.0])),
    "an array as the answer": ("from_code", {"instances": [[1.5, 2.5]]}),
    "params": ("parameters", split(AB, [1.0, 2.0], params={"factor": 3.0})),
    "default params": ("parameters", split(AB, [1.0, 2.0])),
    "an integer for a double param": ("parameters", split(AB, [1.0, 2.0], params={"factor": 3})),
    "a param of the wrong type": ("parameters", split(AB, [1.0, 2.0], params={"factor": "x"})),
    "an unknown param": ("parameters", split(AB, [1.0, 2.0], params={"other": 3})),
    "params that are no object": ("parameters", split(AB, [1.0, 2.0], params=[3])),
    "type hints": ("hinted", {"inputs": ["one", "three"]}),
    "type hints, wrong type": ("hinted", {"inputs": [1, 2]}),
    "type hints, another format": ("hinted", {"instances": ["one"]}),
}


@pytest.mark.parametrize("case", SAME)
def test_as_mlflow_answers(servers: BothServers, case: str) -> None:
    """What MLflow accepts we accept, with equal predictions; what it refuses we refuse, as the client's fault."""
    model, request = SAME[case]
    body, content_type = request if isinstance(request, tuple) else (request, JSON)
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    theirs, ours = servers.ask(model, body, content_type)
    assert (ours.status_code == 200) == (theirs.status_code == 200), (theirs.text, ours.text)
    if theirs.status_code == 200:
        assert ours.json() == without_nan(theirs.json())
    else:
        assert ours.status_code in {400, 415}
        assert set(ours.json()) == {"error_code", "message"}
        assert ours.json()["error_code"] == "BAD_REQUEST"
        assert "Traceback" not in ours.text
    assert ours.content_type == "application/json"


@pytest.mark.parametrize("model", sorted({model for model, _ in SAME.values()}))
def test_company_changes_no_answer(servers: BothServers, model: str) -> None:
    """All requests of the table that come at once, good and bad, are answered in every bit as when each comes alone."""
    bodies = [
        json.dumps(request).encode() if not isinstance(request, bytes) else request
        for name, request in SAME.values()
        if name == model and not isinstance(request, tuple)
    ]
    alone = [servers.ask_ours(model, [body], JSON)[0] for body in bodies]
    together = servers.ask_ours(model, bodies * 3, JSON)
    assert [(each.status_code, each.text) for each in together] == [(each.status_code, each.text) for each in alone] * 3


@pytest.mark.parametrize(
    "model",
    [
        *("linear", "classifier", "pipeline", "tensor", "xgboost", "lightgbm", "forest", "forest_classifier"),
        *("catboost", "catboost_classifier", "scaled", "two_outputs", "onnx", "statsmodels", "kinds", "parameters"),
    ],
)
def test_known_flavours_have_a_fast_path(servers: BothServers, model: str) -> None:
    """Row-wise flavours with a signature go around MLflow, and are joined."""
    request = next(request for name, request in SAME.values() if name == model and isinstance(request, dict))
    [answer] = servers.ask_ours(model, [json.dumps(request).encode()], JSON)
    assert answer.fast


def test_chat_is_answered_unwrapped(servers: BothServers) -> None:
    """A chat model's answer is the model's own object."""
    theirs, ours = servers.ask("chat", b'{"messages": [{"role": "user", "content": "hi"}]}', JSON)
    assert ours.json()["choices"] == theirs.json()["choices"]
    assert ours.json()["choices"][0]["message"]["content"] == "HI"


def test_a_request_without_a_type_is_json(servers: BothServers) -> None:
    """MLflow answers 500 in plain text; we read JSON."""
    _, ours = servers.ask("linear", json.dumps(split(AB, [1, 2])).encode(), None)
    assert ours.status_code == 200
    assert abs(ours.json()["predictions"][0] - 4) < 1e-6


def test_malformed_json_is_located(servers: BothServers) -> None:
    """The message names line and column, and repeats nothing."""
    _, ours = servers.ask("linear", b'{"dataframe_split":\n  {"columns": ["secret"] "data": []}}', JSON)
    assert ours.json() == {
        "error_code": "BAD_REQUEST",
        "message": "the request body is not valid JSON: Expecting ',' delimiter at line 2 column 26",
    }


@pytest.mark.parametrize(
    "body",
    [split(["a"], ["secret"]), split(AB, ["secret", 2.0]), {"inputs": {"a": ["secret"], "b": [1.0]}}],
    ids=["beside a missing column", "in a frame", "in inputs"],
)
def test_refusals_do_not_repeat_the_input(servers: BothServers, body: Any) -> None:
    """MLflow's messages hold the rows; ours say what is missing or of the wrong type."""
    _, ours = servers.ask("linear", json.dumps(body).encode(), JSON)
    assert ours.status_code == 400
    assert "secret" not in ours.text


def test_a_missing_column_is_named(servers: BothServers) -> None:
    """The sender reads which column the model wants."""
    _, ours = servers.ask("linear", json.dumps(split(["a"], [1.0])).encode(), JSON)
    assert ours.json()["message"] == "the input does not fit the model's signature: Model is missing inputs ['b']."


def test_an_unknown_type_is_415(servers: BothServers) -> None:
    """An unsupported media type is refused in JSON, with the types that are supported."""
    _, ours = servers.ask("linear", b"<a/>", "application/xml")
    assert ours.status_code == 415
    assert ours.json()["error_code"] == "BAD_REQUEST"
    assert "text/csv" in ours.json()["message"]


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("raises_value", "raise ValueError('bad thing')", "the model failed with ValueError: bad thing"),
        (
            "raises_404",
            "raise MlflowException('no such customer', error_code=RESOURCE_DOES_NOT_EXIST)",
            "the model failed with MlflowException: no such customer",
        ),
        ("raises_500", "raise MlflowException('broken')", "the model failed with MlflowException: broken"),
        ("retry_bait", "raise ValueError('Unexpected error')", "the model failed with ValueError: unexpected error"),
        ("unwritable", "return {1, 2}", "the model's answer cannot be written as JSON: it holds a set"),
    ],
)
def test_what_a_model_does_wrong_is_400(
    servers: BothServers, models: SavedModels, name: str, body: str, message: str
) -> None:
    """A model's failure is the model's words with 400, whatever status its exception asks for; never a retry bait."""
    models.code(name, body=body)
    _, ours = servers.ask(name, b'{"inputs": [1]}', JSON)
    assert ours.status_code == 400
    assert ours.json() == {"error_code": "BAD_REQUEST", "message": message}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("answers_nan", "return [float('nan'), float('inf'), 1.5]"),
        ("answers_nan_array", "return np.array([[np.nan, 1], [2, -np.inf]])"),
        ("answers_frame", "return pd.DataFrame({'x': [1, 2], 'y': ['a', None]})"),
        ("answers_series", "return pd.Series([1.5, 2.5])"),
        ("answers_named_series", "return pd.Series([1, 2], name='n')"),
        ("answers_dict", "return {'a': np.array([1, 2]), 'b': 'x', 'c': [np.float32(0.1)]}"),
        ("answers_float32", "return np.array([0.1, 0.2], dtype='float32')"),
        ("answers_dates", "return pd.DataFrame({'t': pd.to_datetime(['2024-01-02T03:04:05.678'])})"),
        ("answers_bytes", "return [b'raw']"),
        ("answers_integer_keys", "return [{1: 'x', 2.5: 'y', True: 'z'}]"),
        ("answers_text", "return 'text'"),
        ("answers_nothing", "return None"),
        ("answers_big_integer", "return [10 ** 18, -5]"),
        ("answers_scalar", "return np.int64(7)"),
        ("answers_objects", "return np.array(['a', 1, None], dtype=object)"),
    ],
)
def test_answers_are_written_as_mlflow_writes_them(
    servers: BothServers, models: SavedModels, name: str, body: str
) -> None:
    """Whatever a model may return is the same JSON as MLflow's, with null for NaN and infinity."""
    models.code(name, body=body)
    theirs, ours = servers.ask(name, b'{"inputs": [1]}', JSON)
    assert theirs.status_code == 200, theirs.text
    assert ours.json() == without_nan(theirs.json())
