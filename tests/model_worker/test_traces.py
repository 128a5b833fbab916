"""Spans of a replica: which requests have some, what they say, and that a request never waits for them."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from model_worker import traces as traces_module
from model_worker.traces import Parent, Times, Traces, parent
from tests.e2e.collector import Collector
from tests.model_worker.serving import EchoModel, Running

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    "header",
    [b"", b"nonsense", TRACED[:-2] + b"00", TRACED[:-1], TRACED.upper(), b"ff" + TRACED[2:]],
    ids=["empty", "nonsense", "not sampled", "too short", "capitals", "no such version"],
)
def test_only_what_the_standard_calls_sampled_is_traced(header: bytes) -> None:
    """Whatever else a client sends in the header costs nothing and fails nothing."""
    assert parent(header) is None


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent at the end has the time that it needs on a busy machine."""
    monkeypatch.setattr(traces_module, "_FAREWELL", 60.0)


def test_a_request_becomes_a_span_with_its_phases_below_it() -> None:
    """Phases follow on each other inside the request, as long as `server-timing` says; a later version may say more."""
    with Collector() as collector:
        traces = Traces(collector.url + "/", "multi-model/current")
        of = parent(b"01" + TRACED[2:] + b"-more")
        assert of is not None
        of = replace(of, began=of.began - 4_000_000)  # its phases take 3 ms
        traces.answered(of, 200, (0.5, 0.25, 2.0, 0.25))
        traces.close()
    request, *phases = collector.spans
    assert (request.trace, request.parent, request.name) == (TRACE, SPAN, "invocations current")
    assert request.tags["service.name"] == "wye-worker"
    assert (request.tags["wye.endpoint"], request.tags["wye.served_model"]) == ("multi-model", "current")
    assert request.tags["http.response.status_code"] == "200"
    assert [each.name for each in phases] == ["parse", "queue", "predict", "serialize"]
    assert {(each.trace, each.parent) for each in phases} == {(TRACE, request.id)}
    assert [each.ended - each.began for each in phases] == [500_000, 250_000, 2_000_000, 250_000]
    assert [each.began for each in phases[1:]] == [each.ended for each in phases[:-1]]
    assert request.began <= phases[0].began < phases[-1].ended <= request.ended
    assert len({each.id for each in collector.spans}) == 5


def test_without_a_collector_nothing_waits_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """What is lost is lost; memory is bounded."""
    traces = Traces("http://127.0.0.1:1", "e/m")
    of = parent(TRACED)
    assert of is not None
    for _ in range(10_000):
        traces.answered(of, 500, None)
    traces.close()
    assert [record.message.startswith("traces are lost") for record in caplog.records] == [True]


def no_thread(_: threading.Thread) -> None:
    """As `Thread.start` behaves at a limit of processes."""
    raise RuntimeError("can't start new thread")


def test_a_thread_that_cannot_be_had_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a thread spans wait, and one line says so; they are sent with those of the first request that gets one."""
    of = parent(TRACED)
    assert of is not None
    with Collector() as collector:
        traces = Traces(collector.url, "e/m")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            for _ in range(2):
                traces.answered(of, 200, None)
            traces.close()
        assert [record.message.startswith("traces wait for a thread") for record in caplog.records] == [True]
        traces.answered(of, 200, None)
        traces.close()
    assert len(collector.spans) == 3


class Broken(Traces):
    """Takes no span."""

    def answered(self, of: Parent, status: int, times: Times | None) -> None:
        """Fails."""
        raise RuntimeError


def test_the_answer_comes_before_its_span() -> None:
    """Whatever happens to traces, the client has its answer by then."""
    with Running(EchoModel()) as server:
        server.server._shared.traces = Broken("http://127.0.0.1:1", "e/m")
        assert server.ask(b'{"inputs": [1]}', traceparent=TRACED.decode())[0].status == 200


def test_nothing_is_started_for_requests_that_are_not_traced() -> None:
    """Neither a thread nor a connection."""
    traces = Traces("http://127.0.0.1:1", "e/m")
    assert traces._thread is None
    traces.close()
