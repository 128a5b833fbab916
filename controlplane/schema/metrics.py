"""Measurements in Prometheus' text format, under the names of the original (serving-api.md, section 6.6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from controlplane.domain.measurement import EntityMeasurement, Histogram

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
    lines: list[str] = []
    for name, meaning, figure in _GAUGES:
        values = [(m.entity, value) for m in measured if (value := figure(m)) is not None]
        if values:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
            lines += [f"{name}{{{_labels(endpoint, entity)}}} {_number(value)}" for entity, value in values]
    for name, meaning in _HISTOGRAMS.items():
        found = [(m.entity, histogram) for m in measured for key, histogram in m.histograms if key == name]
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} histogram"] if found else []
        for entity, histogram in found:
            lines += _histogram(name, _labels(endpoint, entity), histogram)
    return "".join(f"{line}\n" for line in lines)


def _histogram(name: str, labels: str, histogram: Histogram) -> list[str]:
    buckets = [f'{name}_bucket{{{labels},le="{_number(bound)}"}} {count}' for bound, count in histogram.buckets]
    return [*buckets, f"{name}_sum{{{labels}}} {_number(histogram.sum)}", f"{name}_count{{{labels}}} {histogram.count}"]


def _labels(endpoint: str, entity: str) -> str:
    return f'endpoint_name="{endpoint}",served_entity_name="{entity}"'


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
