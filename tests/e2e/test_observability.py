"""What operators see of a running Wye: metrics, load tests, the access log, traces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.collector import Collector, Span
from tests.e2e.wye import EXAMPLE, Wye, config, until


def series(wye: Wye, name: str, **labels: str) -> dict[str, float]:
    """The samples of that name with these labels, by served model."""
    answer = wye.client.get("/api/2.0/wye/metrics")
    assert answer.status_code == 200, answer.text
    return {
        sample.labels.get("served_model", ""): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def test_the_fleets_metrics_count_what_was_asked(wye: Wye) -> None:
    """Requests by model and class, latencies, weights, replicas and acknowledgements, from a real Envoy."""
    wye.create("measured", config({"a": 75, "b": 25}, a="linear/1", b="linear/2"))
    assert series(wye, "wye_weight_asked", endpoint="measured") == {"a": 0.75, "b": 0.25}
    assert series(wye, "wye_weight_observed", endpoint="measured") == {}
    for _ in range(6):
        wye.value("measured", "a")
    wye.value("measured", "b")
    assert wye.predict("measured", "b", {"nonsense": 1}).status_code == 400
    until(lambda: series(wye, "wye_requests_total", endpoint="measured", code_class="2xx") == {"a": 6, "b": 1})
    assert series(wye, "wye_requests_total", endpoint="measured", code_class="4xx") == {"b": 1}
    assert series(wye, "wye_weight_observed", endpoint="measured") == {"a": 0.75, "b": 0.25}
    assert series(wye, "wye_requests_in_flight", endpoint="measured") == {"a": 0, "b": 0}
    assert series(wye, "wye_replicas", endpoint="measured", phase="READY") == {"a": 1, "b": 1}
    until(lambda: series(wye, "wye_request_duration_seconds_count", endpoint="measured") == {"a": 6, "b": 2})
    assert series(wye, "wye_config_version", endpoint="measured") == {"": 1}
    assert series(wye, "wye_xds_ack_seconds_count", type="RouteConfiguration")[""] >= 1
    assert series(wye, "wye_envoy_up") == series(wye, "wye_envoy_connected") == {"": 1}


def test_prometheus_has_a_token_that_is_good_for_nothing_else(wye: Wye) -> None:
    """What the file holds that the settings name reads the metrics of everything, and makes no other call."""
    wye.create("watched", config({"a": 100}, a="linear/1"))
    token = (wye.state_dir.parent / "metrics" / "token").read_text()
    headers = {"authorization": f"Bearer {token}"}
    answer = wye.client.get("/api/2.0/wye/metrics", headers=headers)
    assert answer.status_code == 200
    assert 'endpoint="watched"' in answer.text
    assert "wye_envoy_connected" in answer.text
    assert wye.client.get("/api/2.0/serving-endpoints", headers=headers).status_code == 403
    assert wye.client.post("/serving-endpoints/watched/invocations", json=EXAMPLE, headers=headers).status_code == 403
    wye.remove("watched")


def test_a_load_test_finds_the_split_that_was_asked_for(wye: Wye) -> None:
    """Through the real Envoy: everything answered, the true weights inside the intervals, phases from the replicas."""
    wye.create("loaded", config({"a": 80, "b": 20}, a="linear/1", b="linear/2"))
    command = [sys.executable, "-m", "controlplane.cli", "load", "loaded", "--url", wye.url, "--token", wye.token]
    command += ["--file", "-", "--rate", "300", "--duration", "1s", "--json"]
    done = subprocess.run(command, input=json.dumps(EXAMPLE).encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["sent"], found["succeeded"], found["failed"]) == (300, 300, 0)
    # 99.9 of 100 times the observed share is within 8 of the asked one.
    assert {each["served_model"]: abs(each["observed"] - each["asked"]) < 8 for each in found["split"]} == {
        "a": True,
        "b": True,
    }
    assert {each["name"] for each in found["phases"]} == {"parse", "queue", "predict", "serialize", "rest"}


def logged(log: Path, request_id: str) -> dict[str, object]:
    """The line of the access log about that request, once it is written."""

    def line() -> dict[str, object] | None:
        # The last line may be half written; the others need not be read as JSON each time.
        whole = log.read_text().rpartition("\n")[0].splitlines() if log.exists() else []
        lines = (json.loads(each) for each in whole if request_id in each)
        return next((each for each in lines if each["request_id"] == request_id), None)

    return until(line, what=f"{request_id} is in {log}")


def test_the_access_log_tells_where_the_time_went(wye: Wye) -> None:
    """One JSON object a request with typed values: who, what, which replica, and phases that add up."""
    log = wye.state_dir / "logs" / "access.log"
    wye.create("logged", config({"a": 100}, a="linear/1"))
    path = "/serving-endpoints/logged/invocations"
    assert wye.client.post(path, json=EXAMPLE, headers={"x-request-id": "log-1"}).status_code == 200
    assert wye.client.post(path, headers={"x-request-id": "log-2", "authorization": "Bearer no"}).status_code == 401
    line = logged(log, "log-1")
    assert {key: line[key] for key in ("method", "path", "status", "served", "served_model", "user", "attempts")} == {
        "method": "POST",
        "path": path,
        "status": 200,
        "served": "logged/a",
        "served_model": "a",
        "user": "admin",
        "attempts": 1,
    }
    assert "predict;dur=" in str(line["server_timing"])
    phases = [line[f"{name}_us"] for name in ("receive", "forward", "replica", "answer")]
    assert all(isinstance(each, int) for each in phases)
    assert abs(sum(phases) - line["total_us"]) <= 0.1 * line["total_us"] + 10  # type: ignore[arg-type,operator]
    refused = logged(log, "log-2")
    assert (refused["status"], refused["replica"]) == (401, None)
    assert wye.token not in log.read_text()


def test_a_log_that_is_put_aside_is_begun_anew(wye: Wye) -> None:
    """As `wye up` does with a large one, and logrotate could: move it, tell Envoy by SIGUSR1."""
    log = wye.state_dir / "logs" / "access.log"
    until(log.exists)
    os.replace(log, log.with_name("access.log.1"))
    os.kill(wye.pid("envoy"), signal.SIGUSR1)

    def begun() -> bool:
        wye.client.get("/.well-known/databricks-config")  # something to write
        return log.exists()

    until(begun)  # what is asked for before Envoy has heard of it may be written to the old one
    assert wye.client.get("/.well-known/databricks-config", headers={"x-request-id": "log-3"}).status_code == 200
    assert logged(log, "log-3")["status"] == 200


def test_a_trace_goes_from_the_caller_through_envoy_to_the_phases_of_the_replica(start: Callable[..., Wye]) -> None:
    """A real OTLP receiver gets Envoy's spans (protobuf) and the replica's (JSON), one below the other."""
    trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with Collector() as collector:
        wye = start(WYE_OTLP_ENDPOINT=collector.url)
        wye.create("traced", config({"a": 100}, a="linear/1"))
        path = "/serving-endpoints/traced/invocations"
        answer = wye.client.post(path, json=EXAMPLE, headers={"traceparent": f"00-{trace}-{caller}-01"})
        assert answer.status_code == 200, answer.text
        not_sampled = trace[::-1]
        wye.client.post(path, json=EXAMPLE, headers={"traceparent": f"00-{not_sampled}-{caller}-00"})

        def all_there() -> list[Span] | None:
            found = [each for each in collector.spans if each.trace == trace]
            return found if len(found) >= 7 else None

        spans = until(all_there, 60, "seven spans arrive")
        wye.stop()
        assert not [each for each in collector.spans if each.trace == not_sampled]
    by_parent: dict[str, list[Span]] = {}
    for span in spans:
        by_parent.setdefault(span.parent, []).append(span)
    (request,) = by_parent[caller]
    assert (request.service, request.name) == ("wye-envoy", f"POST {path}")
    assert request.tags["wye.served_model"] == "a"
    (upstream,) = by_parent[request.id]
    (served,) = by_parent[upstream.id]
    assert (served.service, served.tags["wye.endpoint"]) == ("wye-worker", "traced")
    assert [each.name for each in by_parent[served.id]] == ["parse", "queue", "predict", "serialize"]
    assert len(spans) == 7
