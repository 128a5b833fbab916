"""The fleet's metrics: what is told of whom, in text that Prometheus' own parser takes."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from controlplane.domain import Deployment, Endpoint, EntitySpec, EnvoyStatus, Phase, Replica, TrafficRoute
from controlplane.domain.measurement import AckTimes, EnvoyReading, FleetReading, FleetView, Histogram, Traffic
from controlplane.rollout import lifecycle
from controlplane.schema.fleet_metrics import fleet_text

INF = float("inf")
LATENCY = Histogram(((5.0, 8), (INF, 10)), 41.5)


def endpoint(name: str, number: str = "1") -> Endpoint:
    """An endpoint that serves `a` and `b`, 90 to 10."""
    made = lifecycle.create(endpoint_id=number, name=name, creator="me", now_ms=1)
    specs = [EntitySpec(each, "m", "1") for each in "ab"]
    split = [TrafficRoute("a", 90), TrafficRoute("b", 10)]
    begun = lifecycle.begin_update(made, specs, split, {("m", "1"): "/m"}, creator="me", now_ms=1)
    return lifecycle.succeed(begun, 1)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The text as Prometheus reads it; no sample comes twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """The one sample."""
    return found[name, frozenset(labels.items())]


def view() -> FleetView:
    """Two Envoys that have carried requests of `e`, a third that is away, replicas, and acknowledgements on two streams."""
    traffic = Traffic((("2xx", 9), ("4xx", 1)), 3, LATENCY)
    readings = (
        EnvoyReading("one", True, {"e/a": traffic, "e/b": Traffic((("2xx", 5),)), "gone/x": traffic}),
        EnvoyReading("two", True, {"e/a": traffic}),
        EnvoyReading("10.0.0.9:9901", False, message="refused"),
    )
    replicas = [Replica(f"r{n}", Deployment("1", "a", 1), Phase.READY) for n in range(2)]
    replicas.append(Replica("r3", Deployment("1", "a", 1), Phase.STARTING))
    replicas.append(Replica("old", Deployment("1", "a", 0), Phase.STOPPING))
    times = Histogram(((0.01, 1), (INF, 2)), 0.5)
    cds = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    return FleetView(
        FleetReading(readings, {"e/a": 80, "e/b": 20, "gone/x": 7}),
        tuple(replicas),
        (
            EnvoyStatus("one", "wye", "1.40.0", "envoy", True, 0),
            EnvoyStatus("lost", "wye", "1.40.0", "envoy", False, 0),
        ),
        (AckTimes("one", cds, times, 1), AckTimes("one", cds, times, 0)),
    )


def test_traffic_is_told_by_endpoint_model_and_envoy() -> None:
    """Requests by class, latencies in seconds, requests in flight, and the observed weights of the last minute."""
    found = samples(fleet_text([endpoint("e")], view(), everything=True))
    labels = {"endpoint": "e", "served_model": "a", "envoy": "two"}
    assert of(found, "wye_requests_total", **labels, code_class="4xx") == 1
    assert of(found, "wye_requests_in_flight", **labels) == 3
    assert of(found, "wye_request_duration_seconds_bucket", **labels, le="0.005") == 8
    assert of(found, "wye_request_duration_seconds_bucket", **labels, le="+Inf") == 10
    assert of(found, "wye_request_duration_seconds_sum", **labels) == 0.0415
    assert of(found, "wye_weight_asked", endpoint="e", served_model="a") == 0.9
    assert of(found, "wye_weight_observed", endpoint="e", served_model="a") == 0.8
    assert not any(("endpoint", "gone") in labels for _, labels in found)


def test_replicas_are_counted_by_phase_and_only_of_the_active_generation() -> None:
    """One that has none is told to have none ready."""
    found = samples(fleet_text([endpoint("e")], view(), everything=True))
    assert of(found, "wye_replicas", endpoint="e", served_model="a", phase="READY") == 2
    assert of(found, "wye_replicas", endpoint="e", served_model="a", phase="STARTING") == 1
    assert of(found, "wye_replicas", endpoint="e", served_model="b", phase="READY") == 0
    assert not any(("phase", "STOPPING") in labels for _, labels in found)


def test_the_control_plane_and_the_envoys_are_told_of() -> None:
    """Who is connected, whose statistics are missing, how long acknowledgements take; several streams are one node."""
    found = samples(fleet_text([endpoint("e")], view(), everything=True))
    assert of(found, "wye_endpoints") == 1
    assert of(found, "wye_config_version", endpoint="e") == 1
    assert of(found, "wye_envoy_up", envoy="two") == 1
    assert of(found, "wye_envoy_up", envoy="10.0.0.9:9901") == 0
    assert of(found, "wye_envoy_connected", envoy="lost") == 0
    assert of(found, "wye_xds_ack_seconds_count", envoy="one", type="Cluster") == 4
    assert of(found, "wye_xds_refused_total", envoy="one", type="Cluster") == 1


def test_others_than_admins_are_told_of_their_endpoints_alone() -> None:
    """Neither Envoys nor other endpoints."""
    found = samples(fleet_text([endpoint("mine", "2")], view(), everything=False))
    assert {dict(labels).get("endpoint") for _, labels in found} == {"mine"}


def test_ten_thousand_idle_endpoints_are_cheap_to_tell_of() -> None:
    """Six lines for each and nothing for their traffic, of which there is none."""
    fleet = [endpoint(f"e{number}", str(number)) for number in range(1000)]
    lines = [line for line in fleet_text(fleet, FleetView(), everything=True).splitlines() if not line.startswith("#")]
    assert len(lines) == 7 * 1000 + 1
