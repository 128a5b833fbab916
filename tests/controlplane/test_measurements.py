"""Metrics as they are read: from an Envoy and from replicas, all of which may be away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controlplane.clock import FakeClock
from controlplane.domain import Address, Deployment, Endpoint, EntitySpec, Phase, ProblemError, Replica, TrafficRoute
from controlplane.domain.measurement import EntityMeasurement, Histogram
from controlplane.measurements import Envoys, FleetMeasurements, Measurements
from controlplane.rollout import lifecycle

ENVOY = """# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="4",envoy_cluster_name="e/a"}} 2
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="5",envoy_cluster_name="e/a"}} 1
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="2",envoy_cluster_name="e/a"}} {requests}
envoy_cluster_upstream_rq_active{{envoy_cluster_name="e/a"}} 3
envoy_cluster_upstream_rq_time_bucket{{envoy_cluster_name="e/a",le="5"}} 8
envoy_cluster_upstream_rq_time_bucket{{envoy_cluster_name="e/a",le="+Inf"}} 10
envoy_cluster_upstream_rq_time_sum{{envoy_cluster_name="e/a"}} 41.5
envoy_cluster_upstream_rq_time_count{{envoy_cluster_name="e/a"}} 10
"""
REPLICA = """requests_in_flight 0
model_queue_time_ms_bucket{le="1"} 4
model_queue_time_ms_bucket{le="+Inf"} 5
model_queue_time_ms_sum 2.5
model_queue_time_ms_count 5
model_parse_time_ms_bucket{le="+Inf"} 5
"""
PROCESS = """process_cpu_seconds_total {spent}
process_start_time_seconds {began}
process_resident_memory_bytes 50.000
machine_memory_bytes 200.000
"""
LATENCY = Histogram(((5.0, 8), (float("inf"), 10)), 41.5)
QUEUE = Histogram(((1.0, 8), (float("inf"), 10)), 5.0)


class Programs:
    """An Envoy's admin interface and a replica, on one port."""

    def __init__(self) -> None:
        programs = self
        self.requests = 10
        #: What replicas say of their processes.
        self.process = ""
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                programs.asked.append(self.path)
                text = (
                    REPLICA + programs.process
                    if self.path == "/metrics"
                    else ENVOY.format(requests=programs.requests - 3)
                )
                if self.path == "/server_info":
                    text = json.dumps({"node": {"id": "envoy-1"}})
                self.send_response(200)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False
        self.address = Address(host="127.0.0.1", port=self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self) -> None:
        """End them."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def programs() -> Iterator[Programs]:
    """Both, running."""
    running = Programs()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to answer itself."""
    monkeypatch.setattr("controlplane.measurements.entities.WORKER_PATIENCE", 60.0)
    monkeypatch.setattr("controlplane.measurements.envoys.PATIENCE", 60.0)


def live() -> Endpoint:
    """The endpoint `e` with the entity `a`."""
    endpoint = lifecycle.create(endpoint_id="1", name="e", creator="me", now_ms=1)
    pending = lifecycle.begin_update(
        endpoint, [EntitySpec("a", "m", "1")], [TrafficRoute("a", 100)], {("m", "1"): "/m"}, creator="me", now_ms=1
    )
    return lifecycle.succeed(pending, 1)


def replica(address: Address | None, slot: int = 0) -> Replica:
    """A ready replica of it."""
    return Replica(f"r{slot}", Deployment("1", "a", 1), Phase.READY, address, None)


def test_everything_that_can_be_measured_is(programs: Programs) -> None:
    """Counts and latencies come from Envoy, queue times and processes from all replicas together."""
    clock = FakeClock()
    measurements = Measurements(Envoys([programs.address], clock), clock, units=lambda replicas: 4 * replicas)
    programs.process = PROCESS.format(spent=1, began=clock.now_ms() / 1000 - 10)
    (found,) = measurements.of(live(), (replica(programs.address), replica(programs.address, slot=1)))
    assert found == EntityMeasurement(
        "a",
        2,
        8,
        cpu_percent=pytest.approx(10.0),
        memory_percent=25.0,
        requests=10,
        requests_4xx=2,
        requests_5xx=1,
        in_flight=3,
        histograms=(("request_latency_ms", LATENCY), ("model_queue_time_ms", QUEUE)),
    )


def test_processor_time_is_that_since_the_last_reading(programs: Programs) -> None:
    """A replica whose process is another one is counted from its beginning."""
    clock = FakeClock()
    measurements = Measurements(Envoys([programs.address], clock), clock, units=lambda replicas: replicas)

    def percent(spent: float, began: float) -> float | None:
        programs.process = PROCESS.format(spent=spent, began=began)
        return measurements.of(live(), (replica(programs.address),))[0].cpu_percent

    first = clock.now_ms() / 1000
    clock.advance(10)
    assert percent(1, first) == pytest.approx(10.0)
    clock.advance(10)
    assert percent(6, first) == pytest.approx(50.0)
    clock.advance(10)
    assert percent(2, first + 25) == pytest.approx(40.0)


def test_requests_are_those_since_a_minute_ago(programs: Programs) -> None:
    """The reading that is nearest to a minute ago counts; a restarted Envoy begins at nothing."""
    clock = FakeClock()
    measurements = Measurements(Envoys([programs.address], clock), clock, units=lambda replicas: replicas)

    def requests(count: int, after: float) -> int | None:
        programs.requests = count
        clock.advance(after)
        return measurements.of(live(), ())[0].requests

    assert [requests(10, 0), requests(15, 59), requests(40, 60), requests(45, 5)] == [10, 5, 25, 30]
    assert requests(4, 60) == 4


def test_what_is_away_is_left_out_or_told(programs: Programs) -> None:
    """A replica that is gone leaves its figures out; without Envoy there is nothing to tell."""
    nowhere = Address(host="127.0.0.1", port=1)
    measurements = Measurements(Envoys([programs.address], FakeClock()), FakeClock(), units=lambda replicas: replicas)
    (found,) = measurements.of(live(), (replica(nowhere), replica(None, slot=1)))
    assert (found.cpu_percent, found.memory_percent) == (None, None)
    assert [name for name, _ in found.histograms] == ["request_latency_ms"]
    blind = Measurements(Envoys([nowhere], FakeClock()), FakeClock(), units=lambda replicas: replicas)
    with pytest.raises(ProblemError, match="Envoy's statistics cannot be read"):
        blind.of(live(), ())


def test_several_envoys_are_added_up_and_one_that_is_away_is_said_to_be(programs: Programs) -> None:
    """Requests of both count; the third is not up, and its reason is kept."""
    clock = FakeClock()
    envoys = Envoys([programs.address, programs.address, Address(host="127.0.0.1", port=1)], clock)
    (found,) = Measurements(envoys, clock, units=lambda replicas: replicas).of(live(), ())
    assert (found.requests, found.requests_4xx, found.in_flight) == (20, 4, 6)
    assert dict(found.histograms)["request_latency_ms"] == LATENCY + LATENCY
    readings = FleetMeasurements(envoys, clock).read().envoys
    assert [(each.node_id, each.up) for each in readings] == [("envoy-1", True)] * 2 + [("127.0.0.1:1", False)]
    assert "refused" in readings[2].message
    envoys.close()


def test_an_envoy_that_takes_long_is_read_the_more_rarely(programs: Programs) -> None:
    """At most a fiftieth of the time is spent on its statistics, and what took very long is told anew after ten seconds."""

    class Slow(FakeClock):
        """Each look at it takes so long."""

        took = 0.1

        def monotonic(self) -> float:
            self.advance(self.took)
            return super().monotonic()

    clock = Slow()
    envoys = Envoys([programs.address], clock)
    first = envoys.read()
    assert all(envoys.read() is first for _ in range(40))
    clock.advance(2)
    clock.took = 5
    second = envoys.read()
    assert second is not first
    assert envoys.read() is second
    assert envoys.read() is not second
    assert sum(path.startswith("/stats") for path in programs.asked) == 3
    envoys.close()


def test_requests_of_late_are_those_of_the_last_minute(programs: Programs) -> None:
    """Whoever asks often does not shorten the minute; an Envoy that starts anew has not had negative requests."""
    clock = FakeClock()
    envoys = Envoys([programs.address], clock)
    fleet = FleetMeasurements(envoys, clock)

    def lately(count: int, after: float) -> int:
        programs.requests = count
        clock.advance(after)
        return fleet.read().lately["e/a"]

    assert [lately(10, 0), lately(20, 30), lately(21, 1), lately(40, 30), lately(50, 30)] == [10, 10, 11, 30, 30]
    assert lately(5, 10) == 5
    envoys.close()
