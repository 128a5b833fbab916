"""Prometheus' text format, as far as Envoy and replicas use it. Text in, values out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from controlplane.domain.measurement import Histogram

_LINE = re.compile(r"(?P<name>\w+)(\{(?P<labels>.*)\})? (?P<value>[0-9.e+-]+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')

#: A line: name, labels, value.
Line = tuple[str, dict[str, str], float]


def lines(text: str) -> list[Line]:
    """The samples in the text; what is none is left out."""
    read = (_LINE.fullmatch(line) for line in text.splitlines())
    return [
        (found["name"], dict(_LABEL.findall(found["labels"] or "")), float(found["value"])) for found in read if found
    ]


def histograms(read: Iterable[Line], label: str = "") -> dict[tuple[str, str], Histogram]:
    """The histograms among the lines, by name and by the value of one label."""
    buckets: dict[tuple[str, str], list[tuple[float, int]]] = {}
    sums: dict[tuple[str, str], float] = {}
    for name, labels, value in read:
        which = labels.get(label, "")
        if name.endswith("_bucket"):
            bucket = float(labels["le"]), int(value)
            buckets.setdefault((name.removesuffix("_bucket"), which), []).append(bucket)
        elif name.endswith("_sum"):
            sums[name.removesuffix("_sum"), which] = value
    return {key: Histogram(tuple(sorted(found)), sums.get(key, 0.0)) for key, found in buckets.items()}
