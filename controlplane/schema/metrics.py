"""One endpoint's measurements in Prometheus' text format, under the names of the original (serving-api.md, section 6.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controlplane.domain.measurement import EntityMeasurement
from controlplane.schema.exposition import Labels, family, histogram_family

#: name, meaning, which figure
_GAUGES: tuple[tuple[str, str, Callable[[EntityMeasurement], float | None]], ...] = (
    ("cpu_usage_percentage", "Processor time, per cent of one core, average of the replicas.", lambda m: m.cpu_percent),
    ("mem_usage_percentage", "Memory, per cent of the machine's, average of the replicas.", lambda m: m.memory_percent),
    ("provisioned_concurrent_requests_total", "Requests at a time that the replicas are for.", lambda m: m.provisioned),
    ("request_count_total", "Requests in the last minute.", lambda m: m.requests),
    ("request_4xx_count_total", "Requests in the last minute that were answered with 4xx.", lambda m: m.requests_4xx),
    ("request_5xx_count_total", "Requests in the last minute that were answered with 5xx.", lambda m: m.requests_5xx),
    ("requests_in_flight", "Requests under way.", lambda m: m.in_flight),
)
_HISTOGRAMS = {
    "request_latency_ms": "Milliseconds until a request was answered, since Envoy's start.",
    "model_queue_time_ms": "Milliseconds that requests waited for the model, since the replicas' start.",
    "model_prediction_latency_ms": "Milliseconds in the model, since the replicas' start.",
}


def prometheus_text(endpoint: str, measured: Iterable[EntityMeasurement]) -> str:
    """The measurements of an endpoint's served entities; what could not be measured is left out."""
    measured = tuple(measured)

    def labels(of: EntityMeasurement) -> Labels:
        return {"endpoint_name": endpoint, "served_entity_name": of.entity}

    lines: list[str] = []
    for name, meaning, figure in _GAUGES:
        samples = [(labels(m), value) for m in measured if (value := figure(m)) is not None]
        lines += family(name, "gauge", meaning, samples)
    for name, meaning in _HISTOGRAMS.items():
        found = [(labels(m), histogram) for m in measured for key, histogram in m.histograms if key == name]
        lines += histogram_family(name, meaning, found)
    return "".join(f"{line}\n" for line in lines)
