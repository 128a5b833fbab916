"""Writing Prometheus' text format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from controlplane.domain.measurement import Histogram

#: What the text is sent as.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


def family(name: str, kind: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> list[str]:
    """The lines of one gauge or counter; none when it has no samples."""
    lines = [
        f"{name}{{{_inside(labels)}}} {number(value)}" if labels else f"{name} {number(value)}"
        for labels, value in samples
    ]
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *lines] if lines else []


def histogram_family(
    name: str, meaning: str, samples: Iterable[tuple[Labels, Histogram]], scale: float = 1.0
) -> list[str]:
    """The lines of one histogram whose bounds and sums are multiplied by `scale`; none when it has no samples."""
    lines: list[str] = []
    for labels, histogram in samples:
        inside = _inside(labels)
        lead = f"{name}_bucket{{{inside}," if inside else f"{name}_bucket{{"
        lines += [f'{lead}le="{number(bound * scale)}"}} {count}' for bound, count in histogram.buckets]
        lines.append(f"{name}_sum{labelled(labels)} {number(histogram.sum * scale)}")
        lines.append(f"{name}_count{labelled(labels)} {histogram.count}")
    return [f"# HELP {name} {meaning}", f"# TYPE {name} histogram", *lines] if lines else []


def labelled(labels: Labels) -> str:
    """The labels in braces, "" when there are none."""
    return f"{{{inside}}}" if (inside := _inside(labels)) else ""


def number(value: float) -> str:
    """A value as short as it can be told."""
    if isinstance(value, int):
        return str(int(value))  # True is 1
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def _inside(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    if '"' not in value and "\\" not in value and "\n" not in value:  # nearly always
        return value
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
