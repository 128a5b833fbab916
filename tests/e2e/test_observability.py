"""What operators see of a running Wye: metrics and load tests."""

from __future__ import annotations

import json
import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

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
