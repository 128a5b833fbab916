"""Answers that come piece by piece, and end whatever happens."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model_worker.codec import Payload
from model_worker.model import ModelError
from tests.model_worker.serving import EchoModel, Running

ONE = b'{"inputs": [1]}'


def test_answers_come_piece_by_piece(serve: Callable[..., Running]) -> None:
    """A stream is `data:` lines and a last `[DONE]`, and the connection serves on."""
    client = serve().client()
    client.post(b'{"inputs": [1, {"a": 2}], "stream": true}')
    response = client.answer()
    assert response.headers["content-type"] == "text/event-stream"
    assert response.read() == b'data: 1\n\ndata: {"a":2}\n\ndata: [DONE]\n\n'
    client.post(ONE)
    assert client.json() == {"predictions": [1]}


class Failing(EchoModel):
    """Streams one piece and fails."""

    def predict_stream(self, payload: Payload) -> Iterator[Any]:
        """One piece, if there is one."""
        yield from payload.value[:1]
        raise ModelError("no more")


def test_a_stream_that_fails_says_so(serve: Callable[..., Running]) -> None:
    """Before its first piece it is an ordinary error; later an event, and the connection ends."""
    server = serve(Failing())
    response, body = server.ask(b'{"inputs": [], "stream": true}')
    assert (response.status, json.loads(body)["message"]) == (400, "no more")
    client = server.client()
    client.post(b'{"inputs": [7, 8], "stream": true}')
    pieces = client.answer().read().split(b"\n\n")
    assert pieces[0] == b"data: 7"
    assert json.loads(pieces[1].removeprefix(b"data: "))["message"] == "no more"
    assert client.rest() == b""


STREAM = b'{"inputs": [1], "stream": true}'


class Raising(EchoModel):
    """Streams one piece, and raises what it was made with."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def predict_stream(self, payload: Payload) -> Iterator[Any]:
        """One piece."""
        yield 7
        raise self._error


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), concurrent.futures.CancelledError(), SystemExit(3), KeyboardInterrupt()],
    ids=repr,
)
def test_a_stream_ends_whatever_its_model_raises(serve: Callable[..., Running], error: BaseException) -> None:
    """What means something to the server's own loop is an error of the model's like any other."""
    server = serve(Raising(error))
    client = server.client()
    client.post(STREAM)
    pieces = client.answer().read().split(b"\n\n")
    assert pieces[0] == b"data: 7"
    assert json.loads(pieces[1].removeprefix(b"data: "))["message"] == f"the model failed with {error!r}"
    assert client.rest() == b""
    assert server.ask(ONE)[0].status == 200


class Unending(EchoModel):
    """Streams what cannot be written, and does not let itself be closed."""

    def predict_stream(self, payload: Payload) -> Iterator[Any]:
        """One good piece, one bad."""
        try:
            yield 7
            yield object()
        finally:
            raise SystemExit(3)


def test_a_stream_ends_though_its_model_does_not_let_it(serve: Callable[..., Running]) -> None:
    """What a model raises when its stream is closed is for the log."""
    server = serve(Unending())
    client = server.client()
    client.post(STREAM)
    assert b"cannot be written" in client.answer().read()
    assert client.rest() == b""
    assert server.ask(ONE)[0].status == 200


class NoThreads(concurrent.futures.Executor):
    """Is at the system's limit."""

    def submit(self, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Fails as `Thread.start` does."""
        raise RuntimeError("can't start new thread")


def test_a_stream_that_no_thread_can_be_had_for_ends(serve: Callable[..., Running]) -> None:
    """Its client is told so, and the connection ends."""
    server = serve()
    server.do(lambda: setattr(server.service, "stream_executor", NoThreads()))
    client = server.client()
    client.post(STREAM)
    assert b"can't start new thread" in client.rest()
