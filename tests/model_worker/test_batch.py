"""Which requests share a prediction, and when it is made."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_worker.batch import (
    BRIEF,
    AbandonedError,
    Batcher,
    Cost,
    FastPath,
    Item,
    UnsplittableError,
    is_brief,
    next_batch,
)
from model_worker.columns import Kind, Layout, Rows

A, B = Layout(("a",), (Kind.DOUBLE,)), Layout(("b",), (Kind.DOUBLE,))


def nobody(item: Item, value: Any, failure: BaseException | None) -> None:
    """Nobody listens."""


def item(
    value: float = 0.0, count: int = 1, layout: Layout = A, params: bytes = b"", done: Callable[..., None] = nobody
) -> Item:
    """A request of `count` equal rows."""
    return Item(Rows(layout, count, [[value]] * count), params or None, params, 0.0, done)


requests = st.lists(
    st.builds(
        item,
        count=st.integers(1, 9),
        layout=st.sampled_from([A, B]),
        params=st.sampled_from([b"", b"x"]),
    ),
    min_size=1,
    max_size=30,
)


@given(requests, st.integers(1, 12))
def test_batches_share_what_they_must_and_lose_nobody(items: list[Item], max_rows: int) -> None:
    """Each request is in one batch; a batch is of one layout and one set of params, no larger than allowed, in order."""
    waiting = deque(items)
    batches = []
    while waiting:
        first = waiting[0]
        batches.append(next_batch(waiting, max_rows))
        assert batches[-1][0] is first
    assert sorted(id(each) for batch in batches for each in batch) == sorted(id(each) for each in items)
    for batch in batches:
        assert len({(each.rows.layout, each.params_key) for each in batch}) == 1
        assert len(batch) == 1 or sum(each.rows.count for each in batch) <= max_rows
    for key in {(each.rows.layout, each.params_key) for each in items}:
        order = [each for batch in batches for each in batch if (each.rows.layout, each.params_key) == key]
        assert order == [each for each in items if (each.rows.layout, each.params_key) == key]


def test_who_has_gone_is_not_predicted() -> None:
    """An abandoned request leaves the queue without a prediction, and is told so."""
    told: list[Any] = []
    gone = item(done=lambda *of: told.append(of))
    gone.abandoned = True
    first, last = item(), item()
    waiting = deque([first, gone, last])
    assert next_batch(waiting, 10) == [first, last]
    assert not waiting
    [(of, value, failure)] = told
    assert (of, value, type(failure)) == (gone, None, AbandonedError)


def test_only_what_is_known_to_be_brief_is() -> None:
    """The cost of rows is added to that of the call; an unknown cost is never brief."""
    assert is_brief(Cost(BRIEF / 2, 0.0), 10)
    assert not is_brief(Cost(BRIEF / 2, BRIEF / 10), 10)
    assert not is_brief(None, 1)


class Hand(Executor):
    """Works when it is told to."""

    def __init__(self) -> None:
        self.work: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Keep the work for later."""
        future: Future[Any] = Future()
        self.work.append(lambda: future.set_result(work(*args, **kwargs)))
        return future


class Model:
    """Answers twice each value, fails on batches with a negative one; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def predict(self, batch: Sequence[Rows], params: Any) -> list[Any]:
        """Twice the first value of each."""
        values = [rows.values[0][0] for rows in batch]
        self.batches.append(values)
        if any(value < 0 for value in values):
            raise ValueError("negative")
        return [value * 2 for value in values]


class Asked:
    """A batcher, what it was asked, and what came back."""

    def __init__(self, cost: Cost | None = None, max_rows: int = 100) -> None:
        self.model = Model()
        self.hand = Hand()
        self.answers: dict[float, Any] = {}
        self.told: list[tuple[int, int]] = []
        fast = FastPath(lambda payload: None, self.model.predict, max_rows, cost)
        self.batcher = Batcher(fast, self.hand, asyncio.get_running_loop(), lambda *told: self.told.append(told[:2]))

    def ask(self, *values: float) -> None:
        """Submit a request for each value."""

        def done(item: Item, value: Any, failure: BaseException | None) -> None:
            self.answers[item.rows.values[0][0]] = value if failure is None else failure

        for value in values:
            self.batcher.submit(item(value, done=done))

    async def turn(self) -> None:
        """Let the loop do what it has to."""
        for _ in range(4):
            await asyncio.sleep(0)


def test_an_idle_model_predicts_at_once_and_arrivals_form_the_next_batch() -> None:
    """What arrives while the model works is one batch, begun as soon as the work is done."""

    async def scenario() -> Asked:
        asked = Asked()
        asked.ask(1)
        await asked.turn()
        assert len(asked.hand.work) == 1
        asked.ask(2, 3)
        asked.ask(4)
        await asked.turn()
        assert len(asked.hand.work) == 1
        asked.hand.work.popleft()()
        await asked.turn()
        assert asked.answers == {1: 2}
        asked.hand.work.popleft()()
        await asked.turn()
        return asked

    asked = asyncio.run(scenario())
    assert asked.model.batches == [[1], [2, 3, 4]]
    assert asked.answers == {1: 2, 2: 4, 3: 6, 4: 8}
    assert asked.told == [(1, 1), (3, 3)]


def test_brief_predictions_need_no_thread() -> None:
    """Requests of one turn of the loop share a prediction, which is made in it."""

    async def scenario() -> Asked:
        asked = Asked(Cost(1e-6, 1e-6), max_rows=2)
        asked.ask(1, 2, 3)
        await asked.turn()
        assert not asked.hand.work
        return asked

    asked = asyncio.run(scenario())
    assert asked.model.batches == [[1, 2], [3]]
    assert asked.answers == {1: 2, 2: 4, 3: 6}


def test_a_failure_is_told_to_each() -> None:
    """Everybody in a failing batch hears of it, may ask the plain path, and the next batch is predicted."""

    async def scenario() -> Asked:
        asked = Asked(Cost(1e-6, 1e-6), max_rows=2)
        asked.ask(1, -1, 3)
        await asked.turn()
        return asked

    asked = asyncio.run(scenario())
    assert isinstance(asked.answers[1], ValueError)
    assert isinstance(asked.answers[-1], ValueError)
    assert asked.answers[3] == 6


def test_whoever_has_gone_is_done_with_before_the_others() -> None:
    """Requests that are abandoned while the model works are told so, the first in the queue too, and nothing else is."""

    async def scenario() -> Asked:
        asked = Asked()
        asked.ask(1)
        await asked.turn()
        asked.ask(2, 3, 4)
        for number in (0, 2):
            asked.batcher._waiting[number].abandoned = True
        for _ in range(2):
            asked.hand.work.popleft()()
            await asked.turn()
        return asked

    asked = asyncio.run(scenario())
    assert asked.model.batches == [[1], [3]]
    assert (asked.answers[1], asked.answers[3]) == (2, 6)
    assert [type(asked.answers[number]) for number in (2, 4)] == [AbandonedError] * 2


@pytest.mark.parametrize("cost", [Cost(1e-6, 1e-6), None], ids=["brief", "in a thread"])
def test_an_answer_that_cannot_be_given_harms_no_other(cost: Cost | None, caplog: pytest.LogCaptureFixture) -> None:
    """The rest of its batch is answered, and so is what comes later; the log says what was wrong."""

    def fails(item: Item, value: Any, failure: BaseException | None) -> None:
        raise TypeError("not to be written")

    async def scenario() -> Asked:
        asked = Asked(cost)
        asked.batcher.submit(item(1, done=fails))
        asked.ask(2)
        await asked.turn()
        while asked.hand.work:
            asked.hand.work.popleft()()
            await asked.turn()
        asked.ask(3)
        await asked.turn()
        while asked.hand.work:
            asked.hand.work.popleft()()
            await asked.turn()
        return asked

    asked = asyncio.run(scenario())
    assert asked.answers == {2: 4, 3: 6}
    assert "not to be written" in caplog.text


def test_a_fault_of_our_own_is_not_the_end_of_the_batches() -> None:
    """Whatever goes wrong between two predictions, what comes later is predicted."""

    async def scenario() -> Asked:
        asked = Asked(Cost(1e-6, 1e-6))
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        tell, asked.batcher._tell = asked.batcher._tell, lambda *_: 1 / 0
        asked.ask(1)
        await asked.turn()
        asked.batcher._tell = tell
        asked.ask(2)
        await asked.turn()
        return asked

    assert asyncio.run(scenario()).answers == {2: 4}


def test_without_a_thread_each_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system has no thread to give, requests may ask the plain path, and later ones are predicted."""

    def refuse(*work: Any) -> Future[Any]:
        raise RuntimeError("can't start new thread")

    async def scenario() -> Asked:
        asked = Asked()
        with monkeypatch.context() as patch:
            patch.setattr(asked.hand, "submit", refuse)
            asked.ask(1, 2)
            await asked.turn()
        asked.ask(3)
        await asked.turn()
        asked.hand.work.popleft()()
        await asked.turn()
        return asked

    answers = asyncio.run(scenario()).answers
    assert [type(answers[number]) for number in (1, 2)] == [RuntimeError] * 2
    assert answers[3] == 6


def test_answers_that_cannot_be_told_apart_end_the_joining() -> None:
    """A model that answers one thing for all rows is asked for one request at a time from then on."""

    async def scenario() -> list[int]:
        sizes = []

        def predict(batch: Sequence[Rows], params: Any) -> list[Any]:
            sizes.append(len(batch))
            if len(batch) > 1:
                raise UnsplittableError("one for all")
            return ["one"]

        hand = Hand()
        batcher = Batcher(
            FastPath(lambda payload: None, predict, 10, Cost(0, 0)), hand, asyncio.get_running_loop(), lambda *_: None
        )
        for _ in range(2):
            for _ in range(3):
                batcher.submit(item())
            for _ in range(5):
                await asyncio.sleep(0)
        return sizes

    assert asyncio.run(scenario()) == [3, 1, 1, 1]
