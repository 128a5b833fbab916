"""One model as a service, whatever the protocol around it: bytes in, a reply out, errors as values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Any

from model_worker import codec, open_inference
from model_worker.admission import Admission, Queue
from model_worker.batch import Batcher, FastPath, Item
from model_worker.codec import ARROW_STREAM, Format, InputError, OutputError, Payload, UnsupportedTypeError
from model_worker.metrics import Metrics
from model_worker.model import Model, ModelError
from model_worker.pulse import AT_WORK, BEAT, Pulse

#: Longer messages help nobody, and may hold a whole input.
_MAX_MESSAGE = 2000

#: Bytes of a body that are read in the connections' thread; more would keep the other connections waiting.
_SMALL = 64 * 1024

JSON = "application/json"


@dataclass(slots=True)  # not frozen: one for each request
class Reply:
    """What is answered: an HTTP status, which any protocol can map, and a body, or its pieces."""

    status: int
    body: bytes
    content_type: str = JSON
    #: Milliseconds of reading, waiting, predicting and writing, when there was a prediction.
    times: tuple[float, float, float, float] | None = None
    #: In place of a body: values that are sent as they come; to be read, and closed, in a thread.
    pieces: Iterator[Any] | None = None
    #: Seconds after which a refused request may come again; 0 where that is not said.
    retry_after: int = 0
    #: With 405: the method that is answered.
    allow: str = ""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that takes the plain path."""

    #: Nobody waits for the answer any more.
    abandoned: bool = False


Answer = Callable[[Reply], None]


class Service:
    """Answers requests with one model. Used by one event loop; the model runs in threads unless it is known to be brief."""

    def __init__(
        self,
        model: Model,
        executor: Executor,
        streams: Executor | None = None,
        *,
        threads: int = 4,
        queue: Queue = Queue(),  # noqa: B008 - a frozen value
        pulse: Pulse | None = None,
    ) -> None:
        """`executor` has `threads` threads for requests that take the plain path, `streams` is for answers in pieces.

        `pulse` is told when work begins and goes on.
        """
        self._model = model
        self._executor = executor
        self._threads = threads
        self._admission = Admission(queue)
        #: When the first request came.
        self._began = 0.0
        self._pulse = pulse if pulse is not None else [0.0, 0.0]
        self.stream_executor = streams or executor
        self.metrics = Metrics()
        self._fast: FastPath | None = None
        self._batcher: Batcher | None = None

    @property
    def version(self) -> str:
        """The version of what serves the model."""
        return self._model.version

    def use(self, fast: FastPath, executor: Executor) -> None:
        """From now on take the fast path with what it can read; `executor` has the one thread that it predicts in."""
        self._fast = fast
        self._batcher = Batcher(fast, executor, asyncio.get_running_loop(), self._batch_predicted)

    def invoke(self, body: bytes, content_type: str | None, accept: str | None, answer: Answer) -> Item | Ticket | None:
        """Call `answer` once, now or later, with the reply; never raises for what the request or the model does wrong.

        What is returned can be marked as abandoned, when nobody waits for the answer any more.
        """
        arrived = perf_counter()
        self._began = self._began or arrived
        in_hand = self.metrics.in_flight
        again = self._admission.refusal(in_hand)
        if again:
            self.metrics.answered(429)
            answer(_too_many(in_hand, again))
            return None
        self.metrics.in_flight = in_hand + 1
        if not in_hand:
            self._pulse[AT_WORK] = monotonic()
        as_arrow = accept is not None and ARROW_STREAM in accept
        fast = self._fast if len(body) <= _SMALL else None
        read: Callable[[bytes], Payload]
        if codec.is_json(content_type):
            read = codec.decode_json
        elif content_type is not None and open_inference.is_meant(content_type):
            read = partial(open_inference.decode, content_type=content_type, signature=self._model.signature)
            answer = _in_its_words(answer)
        else:
            read, fast = partial(codec.decode, content_type=content_type), None
        if fast is None or self._batcher is None:
            return self._plainly(lambda: read(body), as_arrow, arrived, answer)
        try:
            payload = read(body)
            rows = None if as_arrow or payload.stream else fast.read(payload)
            params = payload.params or None
            key = b"" if params is None else json.dumps(params, sort_keys=True).encode()
        except InputError as error:
            self._reply(problem(400, "BAD_REQUEST", str(error)), arrived, answer)
            return None
        except Exception:  # noqa: BLE001 - such as values nested too deeply; the plain path finds an answer to anything
            return self._plainly(lambda: read(body), as_arrow, arrived, answer)
        if rows is None:
            return self._plainly(lambda: payload, as_arrow, arrived, answer)
        parsed = perf_counter()

        def done(item: Item, value: Any, failure: BaseException | None) -> None:
            if failure is None:
                times = arrived, parsed, item.started, item.finished
                self._reply(self._written(value, payload, False, times), arrived, answer)
            elif item.abandoned:
                self._reply(_NOBODY, arrived, answer)
            else:  # alone, so that it fails for its own faults only, with words for its sender
                self._plainly(lambda: payload, as_arrow, arrived, answer)

        item = Item(rows, params, key, parsed, done)
        self._batcher.submit(item)
        return item

    async def ask(self, body: bytes, content_type: str | None, accept: str | None = None) -> Reply:
        """`invoke` as a coroutine."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.invoke(body, content_type, accept, reply.set_result)
        return await reply

    def _batch_predicted(self, requests: int, rows: int, started: float, seconds: float) -> None:
        self.metrics.batch(requests, rows)
        self._admission.predicted(seconds, requests, started - self._began)

    def _plainly(self, read: Callable[[], Payload], as_arrow: bool, arrived: float, answer: Answer) -> Ticket:
        """Read and answer as MLflow does, in a thread."""
        loop = asyncio.get_running_loop()
        ticket = Ticket()

        def hand_back(future: Future[Reply]) -> None:
            error = future.exception()
            reply = (
                future.result() if error is None else problem(400, "BAD_REQUEST", f"the model failed with {error!r}")
            )
            loop.call_soon_threadsafe(self._reply, reply, arrived, answer)

        try:
            future = self._executor.submit(self._plain_reply, ticket, read, as_arrow, arrived)
        except RuntimeError as error:  # no thread can be had
            ticket.abandoned = True  # for it is in the executor's queue all the same
            self._reply(problem(500, "INTERNAL_ERROR", f"the request cannot be worked on: {error}"), arrived, answer)
        else:
            future.add_done_callback(hand_back)
        return ticket

    def _plain_reply(self, ticket: Ticket, read: Callable[[], Payload], as_arrow: bool, arrived: float) -> Reply:
        if ticket.abandoned:
            return _NOBODY
        started = perf_counter()
        try:
            payload = read()
            parsed = perf_counter()
            if payload.stream and self._model.streams:
                return self._streamed(payload)
            predictions = self._model.predict(payload)
            finished = perf_counter()
            self._admission.predicted(finished - started, self._threads, started - self._began)
        except UnsupportedTypeError as error:
            return problem(415, "BAD_REQUEST", str(error))
        except (InputError, ModelError) as error:
            # 400 for the model's failures too: clients retry a 500 for minutes, and it would only fail again.
            return problem(400, "BAD_REQUEST", str(error))
        # The time for the thread is the queue's; as if the request had been read before it.
        times = arrived, arrived + parsed - started, parsed, finished
        return self._written(predictions, payload, as_arrow, times)

    def _written(
        self, predictions: Any, payload: Payload, as_arrow: bool, times: tuple[float, float, float, float]
    ) -> Reply:
        try:
            if payload.write is not None:
                body, as_arrow = payload.write(predictions), False
            elif as_arrow:
                body = codec.encode_arrow(predictions)
            else:
                body = codec.encode(predictions, wrapped=payload.format is not Format.UNWRAPPED)
        except OutputError as error:
            return problem(400, "BAD_REQUEST", str(error))
        except Exception as error:  # noqa: BLE001 - a model may answer anything; its caller must not wait for ever
            return problem(400, "BAD_REQUEST", f"the model's answer cannot be written: {error!r}")
        arrived, parsed, started, finished = times
        return Reply(
            200,
            body,
            ARROW_STREAM if as_arrow else JSON,
            (
                (parsed - arrived) * 1e3,
                (started - parsed) * 1e3,
                (finished - started) * 1e3,
                (perf_counter() - finished) * 1e3,
            ),
        )

    def _streamed(self, payload: Payload) -> Reply:
        """A reply whose pieces are the model's; the first is awaited, so that a model that fails at once says so plainly."""
        pieces = _in_one_context(self._model.predict_stream(payload))
        first = next(pieces, _END)

        def all_pieces() -> Iterator[Any]:
            if first is not _END:
                yield first
                yield from pieces

        return Reply(200, b"", "text/event-stream", pieces=all_pieces())

    def _reply(self, reply: Reply, arrived: float, answer: Answer) -> None:
        metrics = self.metrics
        metrics.in_flight -= 1
        now = monotonic()
        self._pulse[BEAT] = now  # first: while the model held the interpreter's lock there was no other beat
        self._pulse[AT_WORK] = now if metrics.in_flight else 0.0
        metrics.answered(reply.status)
        if reply.times is not None:
            parse, queue, predict, serialize = reply.times
            metrics.parse.observe(parse)
            metrics.queue.observe(queue)
            metrics.predict.observe(predict)
            metrics.serialize.observe(serialize)
        metrics.latency.observe((perf_counter() - arrived) * 1e3)
        answer(reply)


_END = object()


#: The answer to a request whose sender is gone: 499, as proxies log it; it is never sent.
_NOBODY = Reply(499, b"")


def _in_its_words(answer: Answer) -> Answer:
    """Answers errors as clients of the Open Inference Protocol understand them."""

    def told(reply: Reply) -> None:
        if reply.status != 200 and reply is not _NOBODY:
            reply.body = open_inference.error(reply.body)
        answer(reply)

    return told


def _too_many(in_hand: int, again: int) -> Reply:
    message = (
        f"The model has {in_hand} requests in hand already; another one would have to wait for too long. Try again after "
        f"{again} s, or give the served entity more provisioned concurrency."
    )
    reply = problem(429, "REQUEST_LIMIT_EXCEEDED", message)
    reply.retry_after = again
    return reply


def _in_one_context(pieces: Iterator[Any]) -> Iterator[Any]:
    """The same pieces, made in one context whichever thread asks for them: MLflow sets a context variable and resets it."""
    context = copy_context()
    try:
        while (piece := context.run(next, pieces, _END)) is not _END:
            yield piece
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            context.run(close)


def problem(status: int, code: str, message: str) -> Reply:
    """An error as every part of Wye answers it."""
    # The Databricks SDK takes these two words for a passing fault of the platform and sends the request again.
    message = message.replace("Unexpected error", "unexpected error")
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + " …"
    return Reply(status, json.dumps({"error_code": code, "message": message}).encode())
