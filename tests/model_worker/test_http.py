"""HTTP as clients speak it, well and badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from model_worker.batch import FastPath
from model_worker.codec import Payload
from model_worker.columns import Rows, reader
from model_worker.open_inference import MEDIA_TYPE
from tests.model_worker.hosting import wait_until
from tests.model_worker.serving import Running

ONE = b'{"inputs": [1]}'


def test_a_body_over_the_limit_is_413(serve: Callable[..., Running]) -> None:
    """The limit is named, at the limit a request is served, and the rest of a body that is too large is not read."""
    server = serve(max_body=len(ONE))
    assert json.loads(server.ask(ONE)[1]) == {"predictions": [1]}
    response, body = server.ask(ONE + b" ")
    assert response.status == 413
    assert json.loads(body)["message"] == f"the request body is larger than {len(ONE)} bytes"
    assert response.headers["connection"] == "close"


def test_a_body_of_unknown_length_is_limited_as_well(serve: Callable[..., Running]) -> None:
    """Chunks are joined, and counted together."""
    server = serve(max_body=20)
    head = b"POST /invocations HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n"
    client = server.client()
    client.send(head + b"9\r\n" + ONE[:9] + b"\r\n")
    client.send(b"6\r\n" + ONE[9:] + b"\r\n0\r\n\r\n")
    assert client.json() == {"predictions": [1]}
    client.send(head + b"15\r\n" + b" " * 21 + b"\r\n")
    assert client.answer().status == 413


def test_paths_and_methods_are_told_in_json(serve: Callable[..., Running]) -> None:
    """An unknown path is 404 and a wrong method 405, both as JSON errors; a query changes nothing."""
    server = serve()
    assert server.ask(path="/docs")[0].status == 404
    response, body = server.ask(method="GET")
    assert (response.status, response.headers["allow"]) == (405, "POST")
    assert json.loads(body)["error_code"] == "BAD_REQUEST"
    assert server.ask(path="/ping")[0].status == 405
    assert server.ask(path="/ping", method="GET")[1] == b"\n"
    assert server.ask(path="/health", method="HEAD")[1] == b""
    assert server.ask(path="/version", method="GET")[1] == b"1.2.3"
    assert json.loads(server.ask(ONE, path="/invocations?x=1")[1]) == {"predictions": [1]}


def test_a_connection_is_kept(serve: Callable[..., Running]) -> None:
    """Requests follow each other on one connection until the client says that it is the last."""
    client = serve().client()
    for number in range(3):
        client.post(json.dumps({"inputs": [number]}).encode())
        assert client.json() == {"predictions": [number]}
    client.post(ONE, "connection: close\r\n")
    assert client.rest().endswith(b'connection: close\r\n\r\n{"predictions":[1]}')


def test_requests_in_one_breath_are_answered_in_order(serve: Callable[..., Running]) -> None:
    """Pipelined requests get their answers in their order, also the quick ones behind the slow, however many they are."""
    client = serve().client()
    client.send(b"GET /ping HTTP/1.1\r\nhost: r\r\n\r\n" * 500)
    for _ in range(500):
        assert client.answer().read() == b"\n"
    for number in range(40):
        client.post(json.dumps({"inputs": [number]}).encode())
    client.send(b"GET /version HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n")
    for number in range(40):
        assert client.json() == {"predictions": [number]}
    assert client.rest().endswith(b"1.2.3")


def test_what_is_no_http_is_refused_in_json(serve: Callable[..., Running]) -> None:
    """Nonsense, two lengths and endless headers get a reason and the end of the connection; other clients notice nothing."""
    server = serve()
    for nonsense, status in (
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /invocations HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"x" * 300_000, b"431"),
    ):
        client = server.client()
        client.send(nonsense)
        answer = client.rest()
        assert answer.startswith(b"HTTP/1.1 " + status), answer
        assert b'"error_code": "BAD_REQUEST"' in answer
    assert server.ask(ONE)[0].status == 200


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(serve: Callable[..., Running]) -> None:
    """Expect: 100-continue is answered at once, or with the refusal of a body that is too large."""
    client = serve(max_body=100).client()
    head = "POST /invocations HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n"
    client.send(head.format(len(ONE)).encode())
    assert client.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(ONE)
    assert client.json() == {"predictions": [1]}
    client.send(head.format(101).encode())
    assert client.answer().status == 413


@pytest.mark.parametrize("sent", [b"POST /invo", b"POST /invocations HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"])
def test_a_request_that_does_not_arrive_is_given_up(serve: Callable[..., Running], sent: bytes) -> None:
    """Half a head, or half a body, is 408 after its time."""
    client = serve(head=0.1, pause=0.1).client()
    client.send(sent)
    assert client.rest().startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed(serve: Callable[..., Running]) -> None:
    """After its time without a request, without a word."""
    client = serve(keep_alive=0.1).client()
    assert client.rest() == b""


class Gate:
    """A model that waits to be let through."""

    version = "1"
    streams = False

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def predict(self, payload: Payload) -> Any:
        """The input, once the gate is open."""
        self.entered.release()
        assert self.open.wait(30)
        return payload.value


def test_what_is_in_hand_is_answered_at_the_end(serve: Callable[..., Running]) -> None:
    """A server that finishes closes idle connections, answers those that wait, and reads what has begun to arrive."""
    gate = Gate()
    server = serve(gate)
    idle, waiting, arriving = server.client(), server.client(), server.client()
    waiting.post(ONE)
    assert gate.entered.acquire(timeout=30)
    arriving.send(b"POST /invocations HTTP/1.1\r\nhost: r\r\ncontent-length: 15\r\n\r\n" + ONE[:5])
    wait_until(lambda: server.do(lambda: len(server.server.connections)) == 3, "all are connected")
    wait_until(lambda: server.do(lambda: any(c._state == 2 for c in server.server.connections)), "a part has come")
    server.stop()
    assert idle.rest() == b""
    arriving.send(ONE[5:])
    gate.open.set()
    for client in (waiting, arriving):
        answer = client.rest()
        assert answer.endswith(b'{"predictions":[1]}')
        assert b"connection: close" in answer


def test_a_client_that_hangs_up_harms_nobody(serve: Callable[..., Running]) -> None:
    """Its answer is dropped; pings and other requests are answered meanwhile and afterwards."""
    gate = Gate()
    server = serve(gate)
    leaving = server.client()
    leaving.post(ONE)
    assert gate.entered.acquire(timeout=30)
    leaving.close()
    assert server.ask(path="/ping", method="GET")[0].status == 200
    gate.open.set()
    assert server.ask(ONE)[0].status == 200
    wait_until(lambda: server.do(lambda: server.service.metrics.in_flight) == 0, "nothing is in flight any more")


@pytest.fixture
def fast(serve: Callable[..., Running]) -> Iterator[tuple[Running, Gate]]:
    """A server that predicts on the fast path, in a thread, when its gate is open: the number of rows."""
    gate = Gate()

    def predict(batch: Sequence[Rows], params: Any) -> list[Any]:
        gate.entered.release()
        assert gate.open.wait(30)
        return [rows.count for rows in batch]

    server = serve()
    with ThreadPoolExecutor(1) as executor:
        server.do(lambda: server.service.use(FastPath(reader(None), predict), executor))
        yield server, gate
        gate.open.set()


ROWS = b'{"inputs": [[1.0]]}'


def test_clients_that_hang_up_in_the_queue_leave_nothing_in_hand(fast: tuple[Running, Gate]) -> None:
    """Requests that waited for the batch before theirs are dropped and counted as such, and others are answered."""
    server, gate = fast
    first = server.client()
    first.post(ROWS)
    assert gate.entered.acquire(timeout=30)
    leaving = [server.client() for _ in range(3)]
    for client in leaving:
        client.post(ROWS)
    wait_until(lambda: server.do(lambda: server.service.metrics.in_flight) == 4, "all are in hand")
    for client in leaving:
        client.close()
    wait_until(lambda: server.do(lambda: len(server.server.connections)) == 1, "three are gone")
    gate.open.set()
    assert first.json() == {"predictions": 1}
    wait_until(lambda: server.do(lambda: server.service.metrics.in_flight) == 0, "nothing is in flight any more")
    assert b'requests_answered_total{code="499"} 3' in server.ask(path="/metrics", method="GET")[1]


def test_a_number_of_very_many_digits_is_told(fast: tuple[Running, Gate]) -> None:
    """Python reads integers of 4,300 digits; one of more is 400, and nothing is left in hand."""
    server, _ = fast
    response, body = server.ask(b'{"inputs": [[1' + b"0" * 4300 + b"]]}")
    assert response.status == 400
    assert json.loads(body)["message"] == "the request body has an integer of too many digits"
    assert server.do(lambda: server.service.metrics.in_flight) == 0


def test_what_the_fast_path_fails_on_is_left_to_the_plain_path(fast: tuple[Running, Gate]) -> None:
    """Parameters that are nested too deeply to be compared with others' still reach the model."""
    server, _ = fast
    deep = b"[" * 1000 + b"]" * 1000
    assert json.loads(server.ask(ROWS[:-1] + b', "params": {"x": ' + deep + b"}}")[1]) == {"predictions": [[1.0]]}
    assert server.do(lambda: server.service.metrics.in_flight) == 0


def test_an_answer_that_cannot_be_written_leaves_nothing_in_hand(fast: tuple[Running, Gate]) -> None:
    """Its sender is told 400, and others' requests are answered afterwards."""
    server, gate = fast
    gate.open.set()
    tensor = {"name": "a", "shape": [1, 1], "datatype": "FP64", "data": [1]}
    request = json.dumps({"id": "\ud800", "inputs": [tensor]}).encode()
    assert server.ask(request, content_type=MEDIA_TYPE)[0].status == 400
    assert json.loads(server.ask(ROWS)[1]) == {"predictions": 1}
    assert server.do(lambda: server.service.metrics.in_flight) == 0


def test_a_client_that_has_said_all_gets_its_answer(serve: Callable[..., Running]) -> None:
    """A half-closed connection is answered, then closed."""
    gate = Gate()
    client = serve(gate).client()
    client.post(ONE)
    client.socket.shutdown(1)
    gate.open.set()
    assert client.rest().endswith(b'{"predictions":[1]}')


def test_a_slow_reader_gets_all_of_a_large_answer(serve: Callable[..., Running]) -> None:
    """Answers that do not fit the socket wait, and those behind them."""
    client = serve(max_body=1 << 23).client()
    body = json.dumps({"inputs": ["x" * 1000] * 3000}).encode()
    for _ in range(3):
        client.post(body)
    for _ in range(3):
        assert len(client.json()["predictions"]) == 3000


def test_times_are_told(serve: Callable[..., Running]) -> None:
    """Each answer says where its time went, and the metrics add it up."""
    server = serve()
    response, _ = server.ask(ONE)
    phases = [part.partition(";dur=") for part in response.headers["server-timing"].split(", ")]
    assert [name for name, _, _ in phases] == ["parse", "queue", "predict", "serialize"]
    assert all(float(value) >= 0 for _, _, value in phases)
    server.ask(b"{")
    metrics = server.ask(path="/metrics", method="GET")[1].decode().splitlines()
    assert 'requests_answered_total{code="200"} 1' in metrics
    assert 'requests_answered_total{code="400"} 1' in metrics
    assert "model_prediction_latency_ms_count 1" in metrics
    assert "request_latency_ms_count 2" in metrics
    assert 'request_latency_ms_bucket{le="+Inf"} 2' in metrics
    process = dict(line.split() for line in metrics if line.startswith(("process_", "machine_")))
    assert 0 < float(process["process_resident_memory_bytes"]) < float(process["machine_memory_bytes"])
    assert float(process["process_cpu_seconds_total"]) > 0
    assert float(process["process_start_time_seconds"]) <= time.time()
