"""The whole fleet in Prometheus' text format: what docs/observability.md lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import add

from controlplane.domain import Deployment, Endpoint, Phase, UpdateState
from controlplane.domain.measurement import FleetView, Histogram, Traffic
from controlplane.schema.exposition import Labels, family, histogram_family

Sample = tuple[Labels, float]


def fleet_text(endpoints: Iterable[Endpoint], fleet: FleetView, *, everything: bool) -> str:
    """The metrics of these endpoints, and with `everything` of the control plane and Envoys; unknown figures are left out."""
    shown = sorted(endpoints, key=lambda endpoint: endpoint.name)
    lines = [*_endpoints(shown), *_replicas(shown, fleet), *_traffic(shown, fleet)]
    if everything:
        lines += _control_plane(shown, fleet)
    return "".join(f"{line}\n" for line in lines)


def _endpoints(endpoints: list[Endpoint]) -> Iterator[str]:
    def each(figure: str) -> Iterator[Sample]:
        for endpoint in endpoints:
            active = endpoint.active
            values = {
                "version": active.version if active else 0,
                "ready": active is not None and not endpoint.suspended,
                "updating": endpoint.update is UpdateState.IN_PROGRESS,
            }
            yield {"endpoint": endpoint.name}, values[figure]

    yield from family(
        "wye_config_version", "gauge", "The config version that takes the traffic, 0 before the first.", each("version")
    )
    yield from family("wye_endpoint_ready", "gauge", "1 when the endpoint takes requests.", each("ready"))
    yield from family("wye_endpoint_updating", "gauge", "1 while an update is in progress.", each("updating"))
    asked = (
        (_labels(endpoint.name, route.served_entity), route.percent / 100)
        for endpoint in endpoints
        if endpoint.active is not None
        for route in endpoint.active.traffic
    )
    yield from family("wye_weight_asked", "gauge", "Share of the traffic that the config gives a served model.", asked)


def _replicas(endpoints: list[Endpoint], fleet: FleetView) -> Iterator[str]:
    found: dict[Deployment, dict[Phase, int]] = {}
    for replica in fleet.replicas:
        phases = found.setdefault(replica.deployment, {})
        phases[replica.phase] = phases.get(replica.phase, 0) + 1

    def samples() -> Iterator[Sample]:
        for endpoint in endpoints:
            for entity in endpoint.active.entities if endpoint.active else ():
                phases = found.get(Deployment(endpoint.id, entity.name, entity.generation), {})
                labels = _labels(endpoint.name, entity.name)
                yield {**labels, "phase": Phase.READY.value}, phases.get(Phase.READY, 0)
                for phase, count in sorted(phases.items()):
                    if phase is not Phase.READY:
                        yield {**labels, "phase": phase.value}, count

    yield from family("wye_replicas", "gauge", "Replicas of the active config, by phase.", samples())


def _traffic(endpoints: list[Endpoint], fleet: FleetView) -> Iterator[str]:
    names = {endpoint.name for endpoint in endpoints}
    found: list[tuple[dict[str, str], Traffic]] = []
    for reading in fleet.traffic.envoys:
        for statistics in sorted(reading.traffic):
            endpoint, _, entity = statistics.partition("/")
            if endpoint in names:  # else it is deleted, or not the caller's business
                labels = {**_labels(endpoint, entity), "envoy": reading.node_id}
                found.append((labels, reading.traffic[statistics]))
    yield from family(
        "wye_requests_total",
        "counter",
        "Requests that were sent to a served model, by class of the answer's status.",
        (({**labels, "code_class": name}, count) for labels, each in found for name, count in each.by_class),
    )
    yield from histogram_family(
        "wye_request_duration_seconds",
        "Seconds from a request's arrival at Envoy's router to the last byte of its answer.",
        ((labels, each.latency) for labels, each in found if each.latency.buckets),
        scale=0.001,
    )
    yield from family(
        "wye_requests_in_flight", "gauge", "Requests under way.", ((labels, each.in_flight) for labels, each in found)
    )
    yield from family(
        "wye_weight_observed",
        "gauge",
        "Share of the endpoint's requests of the last minute that a served model had, direct ones included.",
        _observed(endpoints, fleet),
    )


def _observed(endpoints: list[Endpoint], fleet: FleetView) -> Iterator[Sample]:
    by_endpoint: dict[str, dict[str, int]] = {}
    for statistics, requests in fleet.traffic.lately.items():
        name, _, served = statistics.partition("/")
        by_endpoint.setdefault(name, {})[served] = requests
    for endpoint in endpoints:
        lately = by_endpoint.get(endpoint.name, {})
        total = sum(lately.values())
        if total and endpoint.active is not None:
            for entity in endpoint.active.entities:
                yield _labels(endpoint.name, entity.name), lately.get(entity.name, 0) / total


def _control_plane(endpoints: list[Endpoint], fleet: FleetView) -> Iterator[str]:
    yield from family("wye_endpoints", "gauge", "Endpoints there are.", [({}, len(endpoints))])
    yield from family(
        "wye_envoy_up",
        "gauge",
        "1 for an Envoy whose statistics could be read; of others the requests are missing here.",
        (({"envoy": reading.node_id}, reading.up) for reading in fleet.traffic.envoys),
    )
    connected: dict[str, float] = {}
    for envoy in fleet.envoys:
        connected[envoy.node_id] = max(connected.get(envoy.node_id, 0), envoy.connected)
    yield from family(
        "wye_envoy_connected",
        "gauge",
        "1 for an Envoy that gets its configuration from here, 0 for one that was lost.",
        (({"envoy": node_id}, value) for node_id, value in sorted(connected.items())),
    )
    together: dict[tuple[str, str], tuple[list[Histogram], int]] = {}
    for ack in fleet.acks:  # a node may have several streams
        histograms, refused = together.get((ack.node_id, ack.type_url), ([], 0))
        together[ack.node_id, ack.type_url] = [*histograms, ack.seconds], refused + ack.refused
    found = [({"envoy": node, "type": _short(url)}, each) for (node, url), each in sorted(together.items())]
    yield from histogram_family(
        "wye_xds_ack_seconds",
        "Seconds from sending a configuration to an Envoy to its answer; clusters are acknowledged once they are warm.",
        ((labels, reduce(add, histograms)) for labels, (histograms, _) in found),
    )
    yield from family(
        "wye_xds_refused_total",
        "counter",
        "Configurations that an Envoy has refused, on its present stream.",
        ((labels, refused) for labels, (_, refused) in found),
    )


def _labels(endpoint: str, entity: str) -> dict[str, str]:
    return {"endpoint": endpoint, "served_model": entity}


def _short(type_url: str) -> str:
    """`type.googleapis.com/envoy.config.cluster.v3.Cluster` as `Cluster`."""
    return type_url.rpartition(".")[2]
