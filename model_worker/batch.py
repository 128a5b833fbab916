"""Batching without waiting: an idle model predicts at once; what arrives meanwhile is the next batch.

`next_batch` and `is_brief` decide. `Batcher` is the loop around them: it predicts in the event loop's own thread where that
takes less time than handing over, else in one other thread (the interpreter's lock allows no second one).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any

from model_worker.columns import Rows

_logger = logging.getLogger(__name__)

#: Rows of one batch, where nobody says otherwise.
MAX_ROWS = 256

#: A batch that is expected to take less than this is predicted where the connections are served: others wait no longer.
BRIEF = 0.002

#: Batches that took so much longer than they should have, one after the other, are a reason to leave the connections'
#: thread for good. Counted in processor time, for on a busy machine any batch may have to wait; a single one may have met
#: the garbage collector.
TOO_LONG = 0.02
STRIKES = 3


class UnsplittableError(Exception):
    """The predictions of a batch cannot be told apart: the model must not be asked for several requests at once."""


class AbandonedError(Exception):
    """Nobody waits for the answer any more, so nothing was predicted."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a prediction takes, in seconds, as measured when the model was loaded."""

    call: float
    row: float

    def of(self, rows: int) -> float:
        """What a batch of so many rows is expected to take."""
        return self.call + self.row * rows


@dataclass(frozen=True, slots=True)
class FastPath:
    """The checked way around MLflow's reading and enforcing, and what is known of it."""

    #: The rows of a payload, or None when the plain path must take it.
    read: Callable[[Any], Rows | None]
    #: One JSON value for each of the requests that share a batch. May raise anything: then each is answered alone.
    predict: Callable[[Sequence[Rows], Any], list[Any]]
    #: Rows of one batch; 1 when requests must not be joined.
    max_rows: int = MAX_ROWS
    #: Known for models that run no code of their user's, which could do anything in the connections' thread.
    cost: Cost | None = None


@dataclass(slots=True, eq=False)
class Item:
    """One request that waits for its prediction."""

    rows: Rows
    params: Any
    #: Only requests with equal ones may share a batch.
    params_key: bytes
    arrived: float
    #: Called once, with the prediction, or with why there is none.
    done: Callable[[Item, Any, BaseException | None], None]
    #: Nobody waits for the answer any more.
    abandoned: bool = False
    started: float = 0.0
    finished: float = 0.0


def next_batch(waiting: deque[Item], max_rows: int) -> list[Item]:
    """Those to predict now, taken out of the queue: the first, and in order all that fit to it.

    A request of more rows than `max_rows` goes alone; nobody is overtaken by a request that fits to it. Abandoned
    ones on the way are done with.
    """
    first = waiting.popleft()
    batch = [first]
    layout, key = first.rows.layout, first.params_key
    rows = first.rows.count
    left: list[Item] = []
    while waiting and rows < max_rows:
        item = waiting.popleft()
        if item.abandoned:
            _drop(item)
            continue
        # Nearly always the same object, which is quicker to see than that two are equal.
        if (item.rows.layout is layout or item.rows.layout == layout) and item.params_key == key:
            if rows + item.rows.count > max_rows:
                left.append(item)
                break
            batch.append(item)
            rows += item.rows.count
        else:
            left.append(item)
    waiting.extendleft(reversed(left))
    return batch


def _drop(item: Item) -> None:
    item.done(item, None, AbandonedError())


def is_brief(cost: Cost | None, rows: int) -> bool:
    """Whether so many rows are predicted before anybody notices that nothing else is done."""
    return cost is not None and cost.of(rows) < BRIEF


class Batcher:
    """Predicts batches, one at a time. Used by one event loop."""

    def __init__(
        self,
        fast: FastPath,
        executor: Executor,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[int, int, float, float], None],
    ) -> None:
        """`tell` hears of each batch its requests, its rows, when it began and the seconds it took; `executor` has one thread."""
        self._fast = fast
        self._cost = fast.cost
        self._max_rows = fast.max_rows
        self._executor = executor
        self._loop = loop
        self._tell = tell
        self._waiting: deque[Item] = deque()
        self._busy = False
        self._strikes = 0

    def submit(self, item: Item) -> None:
        """Predict this as soon as what is being predicted is done; its `done` is called in the loop."""
        self._waiting.append(item)
        if not self._busy:
            self._busy = True
            # Not at once: other connections whose requests are there already are read before, and join.
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        try:
            while self._waiting:
                if self._waiting[0].abandoned:
                    _drop(self._waiting.popleft())
                    continue
                batch = next_batch(self._waiting, self._max_rows)
                rows = sum(item.rows.count for item in batch)
                if not is_brief(self._cost, rows):
                    try:
                        future = self._executor.submit(self._predict, batch)
                    except RuntimeError as error:  # no thread can be had
                        self._finish(batch, [], error)
                        continue
                    future.add_done_callback(lambda future, batch=batch: self._hand_back(batch, future))  # type: ignore[misc]
                    return
                began = thread_time()
                answers, failure = self._predict(batch)
                self._strikes = self._strikes + 1 if thread_time() - began > TOO_LONG else 0
                if self._strikes == STRIKES:
                    self._cost = None
                self._finish(batch, answers, failure)
                if self._waiting:
                    self._loop.call_soon(self._next)  # answers leave, and new requests join, before the next batch
                    return
        except BaseException:  # raised again: this is only for later requests, which would never be predicted
            self._busy = False
            raise
        self._busy = False

    def _predict(self, batch: list[Item]) -> tuple[list[Any], BaseException | None]:
        started = perf_counter()
        answers: list[Any] = []
        failure = None
        try:
            answers = self._fast.predict([item.rows for item in batch], batch[0].params)
        except BaseException as error:  # noqa: BLE001 - a model may raise anything; the plain path will find words for it
            failure = error
        finished = perf_counter()
        for item in batch:
            item.started, item.finished = started, finished
        return answers, failure

    def _hand_back(self, batch: list[Item], future: Future[tuple[list[Any], BaseException | None]]) -> None:
        self._loop.call_soon_threadsafe(self._handed_back, batch, *future.result())

    def _handed_back(self, batch: list[Item], answers: list[Any], failure: BaseException | None) -> None:
        # The next batch first: the thread works while the answers are written.
        self._next()
        self._finish(batch, answers, failure)

    def _finish(self, batch: list[Item], answers: list[Any], failure: BaseException | None) -> None:
        first = batch[0]
        self._tell(len(batch), sum(item.rows.count for item in batch), first.started, first.finished - first.started)
        if isinstance(failure, UnsplittableError):
            _logger.warning("%s: requests are no longer joined", failure)
            self._max_rows = 1
        if failure is not None:
            answers = [None] * len(batch)
        for item, answer in zip(batch, answers, strict=True):
            try:
                item.done(item, answer, failure)
            except Exception:  # the others of its batch are answered all the same
                _logger.exception("a request could not be answered")
