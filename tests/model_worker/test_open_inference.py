"""The Open Inference Protocol: its tensors are what the model would be given in MLflow's format, and its answers are tensors."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_worker import codec
from model_worker.codec import Format, InputError, OutputError, Payload
from model_worker.columns import Column, Kind, Tensor
from model_worker.model import ModelError
from model_worker.open_inference import MEDIA_TYPE, decode, encode
from model_worker.service import Reply, Service
from tests.model_worker.saved_models import SavedModels
from tests.model_worker.serving import EchoModel
from tests.model_worker.test_scoring_equality import JSON, BothServers

TABLE = (Column("a", Kind.DOUBLE), Column("b", Kind.DOUBLE))
TENSOR = Tensor("float64", (-1, 2))
#: A model of named tensors.
NAMED = ()
NAN = float("nan")


def tensor(name: str, shape: list[int], datatype: str, data: Any, **more: Any) -> dict[str, Any]:
    """One of a request's inputs."""
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}


def read(message: Any, signature: Any = TABLE, content_type: str = MEDIA_TYPE) -> tuple[Format, Any, Any]:
    """Layout, value and params of a request's payload."""
    payload = decode(json.dumps(message).encode(), content_type, signature)
    return payload.format, payload.value, payload.params


def table(columns: list[str], *rows: list[Any]) -> tuple[Format, Any, Any]:
    """A table without params."""
    return Format.DATAFRAME_SPLIT, {"columns": columns, "data": list(rows)}, None


SQUARE = tensor("x", [2, 2], "FP64", [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("inputs", "signature", "expected"),
    [
        ([tensor("b", [2], "FP64", [1, 2]), tensor("a", [2, 1], "FP64", [[3], [4]])], TABLE, table(["b", "a"], [1.0, 3.0], [2.0, 4.0])),
        ([SQUARE], TABLE, table(["a", "b"], [1.0, 2.0], [3.0, 4.0])),
        ([tensor("city", [2], "BYTES", ["Bern", "Zoë"])], (Column("city", Kind.STRING),), table(["city"], ["Bern"], ["Zoë"])),
        ([tensor("n", [2], "INT32", [1, -2]), tensor("m", [2], "BOOL", [True, False])], TABLE, table(["n", "m"], [1, True], [-2, False])),
        ([tensor("a", [1], "FP32", [0.1])], TABLE, table(["a"], [float(np.float32(0.1))])),
        ([SQUARE], TENSOR, (Format.INPUTS, [[1.0, 2.0], [3.0, 4.0]], None)),
        ([SQUARE], None, (Format.INPUTS, [[1.0, 2.0], [3.0, 4.0]], None)),
        ([tensor("x", [2], "INT64", [1, 2]), tensor("y", [2], "INT64", [3, 4])], None, table(["x", "y"], [1, 3], [2, 4])),
        ([SQUARE, tensor("y", [1], "INT64", [5])], NAMED, (Format.INPUTS, {"x": [[1.0, 2.0], [3.0, 4.0]], "y": [5]}, None)),
    ],
    ids=["columns", "all columns at once", "words", "integers and booleans", "single precision", "a tensor", "no signature",
         "no signature, columns", "named tensors"],
)  # fmt: skip
def test_tensors_become_what_the_model_takes(inputs: Any, signature: Any, expected: tuple[Format, Any, Any]) -> None:
    """Columns by name, or in the signature's order; a tensor as an array; values as their datatype has them."""
    assert read({"inputs": inputs}, signature) == expected


def test_missing_numbers_and_parameters() -> None:
    """A null among numbers is NaN; parameters are the model's, but for those that are for servers."""
    message = {"inputs": [tensor("a", [2], "FP64", [None, 1])], "parameters": {"factor": 3, "binary_data_output": True}}
    layout, value, params = read(message)
    assert (layout, repr(value["data"]), params) == (Format.DATAFRAME_SPLIT, "[[nan], [1.0]]", {"factor": 3})


def test_binary_tensors() -> None:
    """As Triton's clients send them: behind the JSON, whose length the media type tells; others may be in the JSON."""
    words = [b"Bern", "Zoë".encode()]
    numbers = np.array([1.5, 2.5]).tobytes()
    tail = numbers + b"".join(struct.pack("<I", len(word)) + word for word in words)
    inputs = [
        {"name": "x", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": 16}},
        tensor("n", [2], "INT8", [1, 2]),
        {"name": "city", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail) - 16}},
    ]
    head = json.dumps({"inputs": inputs}).encode()
    payload = decode(head + tail, f"{MEDIA_TYPE}; model=m; json={len(head)}", None)
    assert payload.value == {"columns": ["x", "n", "city"], "data": [[1.5, 1, "Bern"], [2.5, 2, "Zoë"]]}
    with pytest.raises(InputError, match="does not fit"):
        decode(head + tail[:-1], f"{MEDIA_TYPE}; model=m; json={len(head)}", None)


A = tensor("a", [1], "FP64", [1])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ([], "list of JSON objects|no JSON object"),
        ({}, "'inputs' is missing"),
        ({"inputs": 5}, "list of JSON objects"),
        ({"inputs": [5]}, "list of JSON objects"),
        ({"inputs": [A, A]}, "name of its own"),
        ({"inputs": [{**A, "name": 5}]}, "name of its own"),
        ({"inputs": [{**A, "datatype": "FP128"}]}, "one of BOOL"),
        ({"inputs": [{**A, "datatype": ["FP64"]}]}, "one of BOOL"),
        ({"inputs": [{**A, "shape": 1}]}, "no shape"),
        ({"inputs": [{**A, "shape": [-1]}]}, "no shape"),
        ({"inputs": [{**A, "shape": [2]}]}, "does not fit"),
        ({"inputs": [{**A, "data": 1}]}, "does not fit"),
        ({"inputs": [{**A, "data": None}]}, "does not fit"),
        ({"inputs": [{**A, "data": ["one"]}]}, "does not fit"),
        ({"inputs": [{**A, "data": [True]}]}, "does not fit"),
        ({"inputs": [{**A, "data": [[1], [2, 3]]}]}, "does not fit"),
        ({"inputs": [{**A, "datatype": "INT64", "data": [1.5]}]}, "does not fit"),
        ({"inputs": [{**A, "datatype": "UINT8", "data": [256]}]}, "does not fit"),
        ({"inputs": [{**A, "datatype": "FP32", "data": [1e300]}]}, "does not fit"),
        ({"inputs": [{**A, "datatype": "BYTES", "data": [1]}]}, "does not fit"),
        ({"inputs": [{**A, "parameters": {"binary_data_size": "8"}}]}, "does not fit"),
        ({"inputs": [{**A, "parameters": {"binary_data_size": 8}}]}, "does not fit"),
        ({"inputs": [{**A, "parameters": 5}]}, "'parameters' must be"),
        ({"inputs": [A], "parameters": [5]}, "'parameters' must be"),
        ({"inputs": [A], "outputs": 5}, "'outputs' must be"),
        ({"inputs": [A, tensor("b", [2], "FP64", [1, 2])]}, "different lengths"),
        ({"inputs": [tensor("a", [1, 3], "FP64", [1, 2, 3])]}, r"has the shape \[1, 3\]"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_told(message: Any, words: str) -> None:
    """In words that name what to change, and hold no data."""
    with pytest.raises(InputError, match=words):
        read(message)


@pytest.mark.parametrize("key", ["id", "outputs"])
def test_names_that_are_nested_deeply_are_told(key: str) -> None:
    """They are no strings, and too deep to be made into some."""
    deep = "[" * 1000 + "]" * 1000
    given = {"id": deep, "outputs": f'[{{"name": {deep}}}]'}[key]
    with pytest.raises(InputError, match="must be strings"):
        decode(f'{{"inputs": [{json.dumps(A)}], "{key}": {given}}}'.encode(), MEDIA_TYPE, TABLE)


@pytest.mark.parametrize("length", ["9" * 5000, "²", "-1", "x", "999"])
def test_a_length_that_is_none_does_no_harm(length: str) -> None:
    """All of the body is JSON then."""
    assert read({"inputs": [A]}, content_type=f"{MEDIA_TYPE}; model=m; json={length}") == table(["a"], [1.0])


@pytest.mark.parametrize(
    ("predictions", "outputs"),
    [
        ([1.5, 2], [tensor("output-1", [2], "FP64", [1.5, 2.0])]),
        (np.array([[1, 2], [3, 4]]), [tensor("output-1", [2, 2], "INT64", [1, 2, 3, 4])]),
        (np.array([NAN, 1]), [tensor("output-1", [2], "FP64", [None, 1.0])]),
        (np.array([True]), [tensor("output-1", [1], "BOOL", [True])]),
        (["x", "y"], [tensor("output-1", [2], "BYTES", ["x", "y"])]),
        (3, [tensor("output-1", [1], "INT64", [3])]),
        ([], [tensor("output-1", [0], "FP64", [])]),
        (pd.DataFrame({"p": [0.5], "label": ["x"]}), [tensor("p", [1], "FP64", [0.5]), tensor("label", [1], "BYTES", ["x"])]),
        ({"p": np.array([[0.5]]), "n": 7}, [tensor("p", [1, 1], "FP64", [0.5]), tensor("n", [1], "INT64", [7])]),
    ],
)  # fmt: skip
def test_predictions_become_tensors(predictions: Any, outputs: Any) -> None:
    """Flat data in the order of the rows, with its shape; a tensor for each column."""
    answer = json.loads(encode(predictions, model="m", request_id="7"))
    assert answer == {"model_name": "m", "id": "7", "outputs": outputs}


@pytest.mark.parametrize(
    "predictions", [[[1], [2, 3]], ["x", 1], [{"a": 1}, {"b": 1}], {"a": {"b": 1}}, [True, None], {1}]
)
def test_what_is_no_tensor_is_told(predictions: Any) -> None:
    """The caller reads where such answers are to be had."""
    with pytest.raises(OutputError):
        encode(predictions, model="m")


def test_an_id_that_is_no_text_is_told() -> None:
    """Half of a character can be asked with, but not be sent back."""
    with pytest.raises(OutputError, match="the request's id cannot be sent back"):
        encode([1], model="m", request_id="\ud800")


def test_only_the_outputs_that_are_wanted() -> None:
    """By name, and in their order; another name is an error that names those there are."""
    frame = pd.DataFrame({"a": [1], "b": [2], "c": [3]})
    assert [each["name"] for each in json.loads(encode(frame, model="m", wanted=["c", "a"]))["outputs"]] == ["c", "a"]
    with pytest.raises(OutputError, match="no output 'd'; it has a, b, c"):
        encode(frame, model="m", wanted=["d"])


@pytest.fixture(scope="module")
def servers(models: SavedModels) -> Iterator[BothServers]:
    """Our service with models in it."""
    both = BothServers(models)
    yield both
    both.close()


PERSON = [
    tensor("city", [2], "BYTES", ["Rome", "Oslo"]),
    tensor("age", [2], "INT64", [2, 3]),
    tensor("member", [2], "BOOL", [True, False]),
    tensor("score", [2], "FP64", [1.0, 2.0]),
]


@pytest.mark.parametrize(
    ("model", "inputs", "same"),
    [
        ("linear", [SQUARE], {"inputs": {"a": [1.0, 3.0], "b": [2.0, 4.0]}}),
        ("tensor", [SQUARE], {"inputs": [[1.0, 2.0], [3.0, 4.0]]}),
        ("pipeline", PERSON, {"dataframe_split": {"columns": ["city", "age", "member", "score"], "data": [["Rome", 2, True, 1.0], ["Oslo", 3, False, 2.0]]}}),
    ],
)  # fmt: skip
def test_models_answer_as_ever_and_are_joined(servers: BothServers, model: str, inputs: Any, same: Any) -> None:
    """The same predictions as by MLflow's format, on the same short way."""
    [expected] = servers.ask_ours(model, [json.dumps(same).encode()], JSON)
    [answer] = servers.ask_ours(model, [json.dumps({"inputs": inputs}).encode()], f"{MEDIA_TYPE}; model=multi")
    assert (answer.status_code, answer.content_type, answer.fast) == (200, JSON, True)
    assert answer.json()["model_name"] == "multi"
    assert [each["data"] for each in answer.json()["outputs"]] == [expected.json()["predictions"]]


def test_a_large_request_is_read_elsewhere(servers: BothServers) -> None:
    """Beside the connections' thread; an answer in Arrow is not this protocol's."""
    rows = 10_000
    message = {"inputs": [tensor(name, [rows, 1], "FP64", [1.5] * rows) for name in "ab"]}
    [answer] = servers.ask_ours("linear", [json.dumps(message).encode()], MEDIA_TYPE, codec.ARROW_STREAM)
    assert (answer.status_code, answer.content_type, answer.fast) == (200, JSON, False)
    assert answer.json()["outputs"][0]["shape"] == [rows]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [("linear", [A]), ("linear", []), ("linear", [tensor("a", [1], "BYTES", ["x"]), {**A, "name": "b"}])],
)
def test_errors_have_this_protocols_key_too(servers: BothServers, model: str, inputs: Any) -> None:
    """Its clients read `error`, everybody else `message`."""
    [answer] = servers.ask_ours(model, [json.dumps({"inputs": inputs}).encode()], MEDIA_TYPE)
    assert answer.status_code == 400
    assert answer.json() == {
        "error_code": "BAD_REQUEST",
        "message": answer.json()["error"],
        "error": answer.json()["error"],
    }


class Failing(EchoModel):
    """Quotes half a character."""

    def predict(self, payload: Payload) -> Any:
        """Fails."""
        raise ModelError("unknown city \ud800")


def ask(model: EchoModel, *, hang_up: bool = False) -> Reply:
    """What a model's service answers, to a client that may have gone."""
    replies: list[Reply] = []

    async def scenario() -> None:
        begin = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(begin.wait, 30)
            service = Service(model, pool)
            waiting = service.invoke(json.dumps({"inputs": [A]}).encode(), MEDIA_TYPE, None, replies.append)
            assert waiting is not None
            waiting.abandoned = hang_up
            begin.set()
        await asyncio.sleep(0)  # the pool has ended, so the reply is in the loop
        assert service.metrics.in_flight == 0

    asyncio.run(scenario())
    [reply] = replies
    return reply


def test_errors_may_quote_what_is_no_text() -> None:
    """Half of a character in a message is told to this protocol's clients as to others."""
    reply = ask(Failing())
    assert reply.status == 400
    assert json.loads(reply.body)["error"] == "unknown city \ud800"


def test_nobody_is_told_nothing() -> None:
    """A client that has hung up needs no words of this protocol."""
    reply = ask(EchoModel(), hang_up=True)
    assert (reply.status, reply.body) == (499, b"")
