"""Arrow, streams of models, parameters and faults of neighbours, through the service with its fast path."""

from __future__ import annotations

import asyncio
import io
import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from model_worker import codec
from model_worker.codec import ARROW_STREAM, OutputError
from model_worker.fast import Wish
from model_worker.service import Reply, Service
from tests.model_worker.saved_models import SavedModels
from tests.model_worker.serving import Running

JSON = "application/json"


def arrow(frame: pd.DataFrame) -> bytes:
    """The frame as an Arrow IPC stream."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def body(*rows: list[Any], **more: Any) -> bytes:
    """A request for the models of two columns."""
    return json.dumps({"dataframe_split": {"columns": ["a", "b"], "data": list(rows)}} | more).encode()


class Asker:
    """Loads models and asks their services."""

    def __init__(self, models: SavedModels) -> None:
        self._models = models
        self._pool = ThreadPoolExecutor(1)
        self._loaded: dict[Any, Any] = {}

    def load(self, name: str, wish: Wish) -> Any:
        """The model and its fast path."""
        if (name, wish) not in self._loaded:
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("ignore")
                from model_worker.mlflow_model import load

                model = load(self._models(name))
                self._loaded[name, wish] = model, model.fast_path(wish)
        return self._loaded[name, wish]

    def ask(
        self, name: str, *bodies: bytes, content_type: str = JSON, accept: str | None = None, wish: Wish | None = None
    ) -> tuple[list[Reply], str]:
        """The replies to requests that come at once, and the metrics afterwards."""
        model, fast = self.load(name, wish or Wish())

        async def scenario() -> tuple[list[Reply], str]:
            service = Service(model, self._pool)
            if fast is not None:
                service.use(fast, self._pool)
            return (
                await asyncio.gather(*(service.ask(each, content_type, accept) for each in bodies)),
                service.metrics.text(),
            )

        with warnings.catch_warnings(record=True):
            warnings.simplefilter("ignore")
            return asyncio.run(scenario())

    def close(self) -> None:
        """Leave no thread."""
        self._pool.shutdown()


@pytest.fixture(scope="module")
def asker(models: SavedModels) -> Iterator[Asker]:
    """Models loaded once."""
    asker = Asker(models)
    yield asker
    asker.close()


def test_arrow_in_and_out(asker: Asker) -> None:
    """An Arrow stream is a frame, and on demand the predictions are one too, equal to those in JSON."""
    frame = pd.DataFrame({"b": [2.0, 4.5], "a": [1.0, 3.0]})
    [as_json], _ = asker.ask("linear", body([1.0, 2.0], [3.0, 4.5]))
    [as_arrow], _ = asker.ask("linear", arrow(frame), content_type=ARROW_STREAM, accept=ARROW_STREAM)
    assert as_arrow.content_type == ARROW_STREAM
    table = pa.ipc.open_stream(as_arrow.body).read_all()
    assert table.to_pydict() == json.loads(as_json.body)
    [mixed], _ = asker.ask("linear", body([1.0, 2.0], [3.0, 4.5]), accept=f"{ARROW_STREAM}, */*")
    assert mixed.body == as_arrow.body


def test_a_matrix_and_a_frame_as_arrow() -> None:
    """Columns keep their names, or get numbers."""
    by_number = pa.ipc.open_stream(
        codec.encode_arrow(pd.DataFrame({"x": [1], "y": ["z"]}).to_numpy()[:, :1])
    ).read_all()
    assert by_number.column_names == ["0"]
    named = pa.ipc.open_stream(codec.encode_arrow(pd.DataFrame({"x": [1], "y": ["z"]}))).read_all()
    assert named.to_pydict() == {"x": [1], "y": ["z"]}


@pytest.mark.parametrize("answer", [{"a": 1}, 5, [[[1]]], [{"a": 1}, 2]])
def test_what_is_no_table_is_no_arrow(answer: Any) -> None:
    """The sender is told to ask for JSON."""
    with pytest.raises(OutputError, match="JSON"):
        codec.encode_arrow(answer)


def test_a_broken_arrow_stream_is_refused(asker: Asker) -> None:
    """In words that repeat nothing."""
    [reply], _ = asker.ask("linear", b"ARROW1 or not", content_type=ARROW_STREAM)
    assert reply.status == 400
    assert json.loads(reply.body)["message"] == "the body is not an Arrow IPC stream that holds a table"


def test_a_bad_neighbour_fails_alone(asker: Asker) -> None:
    """Of requests that come at once those with a bad row are refused, and the others share a prediction."""
    bodies = [body([float(n), 1.0]) for n in range(20)]
    bodies[3], bodies[9] = body(["bad", 1.0]), body([None, 1.0])
    replies, metrics = asker.ask("linear", *bodies)
    assert [n for n, reply in enumerate(replies) if reply.status != 200] == [3, 9]
    assert "model_batch_requests_count 1\n" in metrics
    assert "model_batch_rows_sum 18\n" in metrics


def test_a_model_that_fails_on_one_row_fails_for_its_sender_only(asker: Asker, models: SavedModels) -> None:
    """A batch that fails is asked again one by one, and only the guilty request gets the model's words."""
    models.code("picky", body="assert not (model_input.a == 13).any(), 'unlucky'; return list(model_input.a)")
    replies, metrics = asker.ask("picky", *(body([n, 0]) for n in range(10, 16)), wish=Wish(on=True))
    assert [reply.status for reply in replies] == [200, 200, 200, 400, 200, 200]
    assert json.loads(replies[3].body)["message"] == "the model failed with AssertionError: unlucky"
    assert [json.loads(reply.body)["predictions"] for reply in replies[4:]] == [[14], [15]]
    assert "requests_in_flight 0\n" in metrics


def test_equal_params_share_a_prediction(asker: Asker) -> None:
    """Requests with other params are predicted apart; wrong ones are refused alone."""
    factors = [2.0, 3.0, 2.0, "x", 3.0]
    bodies = [body([1.0, 2.0], params={"factor": factor}) for factor in factors]
    replies, metrics = asker.ask("parameters", *bodies, wish=Wish(on=True))
    assert [reply.status for reply in replies] == [200, 200, 200, 400, 200]
    assert json.loads(replies[0].body)["predictions"] == [{"a": 2.0, "b": 4.0}]
    assert json.loads(replies[4].body)["predictions"] == [{"a": 3.0, "b": 6.0}]
    assert "model_batch_requests_count 2\n" in metrics


def test_a_model_that_streams_is_streamed(models: SavedModels) -> None:
    """Its pieces are events, a failure says whose it is, and without `stream` it answers at once."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        from model_worker.mlflow_model import load

        model = load(models("streaming"))
        assert model.fast_path(Wish(on=True)) is None

    def request(content: str, **more: Any) -> bytes:
        return json.dumps({"messages": [{"role": "user", "content": content}]} | more).encode()

    with Running(model) as server:
        _, answer = server.ask(request("a b"))
        assert json.loads(answer) == [{"word": "a"}, {"word": "b"}]
        response, answer = server.ask(request("a b", stream=True))
        assert response.headers["content-type"] == "text/event-stream"
        assert answer == b'data: {"word":"a"}\n\ndata: {"word":"b"}\n\ndata: [DONE]\n\n'
        response, answer = server.ask(request("fail", stream=True))
        assert response.status == 400
        assert json.loads(answer)["message"] == "the model failed with ValueError: told to"
