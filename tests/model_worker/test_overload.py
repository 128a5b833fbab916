"""A replica that has too much in hand says so at once, and does the work of those whom it took."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_worker.admission import MOST, WARMING, Admission, Queue
from model_worker.codec import Payload
from model_worker.service import Reply, Service
from tests.model_worker.hosting import wait_until
from tests.model_worker.serving import EchoModel, Running

ONE = b'{"inputs": [1]}'


def paced(seconds: float, queue: Queue = Queue()) -> Admission:  # noqa: B008 - a frozen value
    """What an admission decides whose model takes so long for each request."""
    made = Admission(queue)
    for _ in range(100):
        made.predicted(seconds, 1, WARMING)
    return made


def taken(of: Admission) -> int:
    """How many requests it takes in hand when none is ever answered."""
    return next(in_hand for in_hand in range(MOST + 1) if of.refusal(in_hand))


def test_a_quick_model_may_have_many_requests_in_hand_and_a_slow_one_few() -> None:
    """As many as are answered within half a second; some in any case, but none that would never be waited for."""
    assert taken(paced(0.00001)) == MOST
    assert taken(paced(0.005)) == 100
    assert taken(paced(1.0)) == 32
    assert taken(paced(30.0)) == 10
    assert taken(paced(1.0, Queue(requests=2))) == 2


def test_nothing_is_refused_for_a_wait_that_nobody_knows() -> None:
    """Before a model's pace is known, only the number counts: a hundred first requests are all answered."""
    fresh = Admission(Queue())
    fresh.predicted(10.0, 1, 0.0)  # the first, which imports half of the world
    fresh.predicted(0.1, 1, 1.9)  # and the crowd that waited for it
    assert taken(fresh) == MOST


@given(
    st.floats(1e-7, 100.0),
    st.integers(0, MOST),
    st.builds(Queue, requests=st.integers(1, MOST), seconds=st.floats(0, 100)),
)
def test_who_is_refused_is_told_when_to_come_again(pace: float, in_hand: int, queue: Queue) -> None:
    """Within half a minute and not at once; and with more in hand nobody is taken who was not with less."""
    busy = paced(pace, queue)
    again = busy.refusal(in_hand)
    assert again == 0 or 1 <= again <= 30
    if again:
        assert busy.refusal(in_hand + 1)


def test_an_entity_says_how_much_it_takes() -> None:
    """Its variables go before the settings; what is no number is refused with its name."""
    queue = Queue().overridden({"WYE_QUEUE": "7", "WYE_QUEUE_SECONDS": "2.5"})
    assert (queue.requests, queue.seconds, queue.timeout) == (7, 2.5, 297.0)
    for name, value in (("WYE_QUEUE", "0"), ("WYE_QUEUE", "many"), ("WYE_QUEUE_SECONDS", "nan")):
        with pytest.raises(ValueError, match=name):
            Queue().overridden({name: value})


class HeldModel(EchoModel):
    """Predicts when it may, and remembers what."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.predicted: list[Any] = []

    def predict(self, payload: Payload) -> Any:
        """The input, as soon as that is allowed."""
        assert self.may.wait(60)
        self.predicted.append(payload.value)
        return payload.value


@pytest.fixture
def held() -> Iterator[tuple[Running, HeldModel]]:
    """A server that takes six requests."""
    model = HeldModel()
    with Running(model, queue=Queue(requests=6)) as server:
        for _ in range(5):
            server.do(lambda: server.service._admission.predicted(1.0, 1, WARMING))
        yield server, model
        model.may.set()


def in_hand(server: Running) -> int:
    """How many requests it has."""
    count: int = server.do(lambda: server.service.metrics.in_flight)
    return count


def test_what_is_too_much_is_refused_at_once(held: tuple[Running, HeldModel]) -> None:
    """429 with Retry-After as JSON, while those in hand wait; they are answered in the end, and pings meanwhile."""
    server, model = held
    clients = [server.client() for _ in range(6)]
    for client in clients:
        client.post(ONE)
    wait_until(lambda: in_hand(server) == 6, "all are in hand")
    response, body = server.ask(ONE)
    assert (response.status, response.headers["retry-after"]) == (429, "3")
    assert json.loads(body)["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert server.ask(path="/ping", method="GET")[0].status == 200
    model.may.set()
    assert [client.json() for client in clients] == [{"predictions": [1]}] * 6
    assert server.ask(ONE)[0].status == 200


def test_nothing_is_predicted_for_those_who_have_gone(held: tuple[Running, HeldModel]) -> None:
    """Requests that waited for a thread when their client hung up cost nothing."""
    server, model = held
    clients = [server.client() for _ in range(6)]
    for number, client in enumerate(clients[:4]):
        client.post(json.dumps({"inputs": [number]}).encode())
        wait_until(lambda number=number: in_hand(server) == number + 1, "it is in hand")
    for client in clients[4:]:
        client.post(b'{"inputs": ["nobody"]}')
    wait_until(lambda: in_hand(server) == 6, "all are in hand")
    for client in clients[4:]:
        client.close()
    wait_until(lambda: len(server.do(lambda: list(server.server.connections))) == 4, "two are gone")
    model.may.set()
    assert [client.json() for client in clients[:4]] == [{"predictions": [number]} for number in range(4)]
    wait_until(lambda: in_hand(server) == 0, "nothing is left")
    assert ["nobody"] not in model.predicted


def test_what_no_thread_can_be_had_for_is_500(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of processes a request is told so at once and leaves nothing in hand; later ones are answered."""

    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Running(EchoModel()) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fails)
            response, body = server.ask(ONE)
        assert response.status == 500
        assert json.loads(body) == {
            "error_code": "INTERNAL_ERROR",
            "message": "the request cannot be worked on: can't start new thread",
        }
        assert in_hand(server) == 0
        assert server.ask(ONE)[0].status == 200


def test_the_pace_of_what_runs_side_by_side_is_that_of_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each of four threads has taken for a request has been enough for four."""
    told: list[tuple[float, float]] = []
    monkeypatch.setattr(Admission, "predicted", lambda _, seconds, requests, age: told.append((seconds, requests)))

    class Slow(EchoModel):
        def predict(self, payload: Payload) -> Any:
            threading.Event().wait(0.02)
            return payload.value

    async def run() -> None:
        with ThreadPoolExecutor(4) as pool:
            service = Service(Slow(), pool, threads=4)
            replies: list[Reply] = await asyncio.gather(*(service.ask(ONE, None) for _ in range(24)))
            assert {reply.status for reply in replies} == {200}

    asyncio.run(run())
    assert len(told) == 24
    assert all(seconds > 0.015 and requests == 4 for seconds, requests in told)
