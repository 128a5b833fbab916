"""What a load test showed, as one value: the text, the JSON and the HTML are made from it and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from controlplane.loadtest import intervals
from controlplane.loadtest.comparison import Comparison, compare
from controlplane.loadtest.histogram import Histogram
from controlplane.loadtest.schedule import Closed, Mode
from controlplane.loadtest.tally import SLICES, Tally, latencies

#: The quantiles that are told.
QUANTILES = (0.5, 0.9, 0.99, 0.999)
#: Share of a processor above which what is measured is this program as much as the server.
_BUSY = 0.9
#: Lateness at the 99th percentile, as a share of the median latency, that is worth telling.
_LATE = 0.25


@dataclass(frozen=True, slots=True)
class Latency:
    """The distribution of some latencies, in milliseconds; None where there are none."""

    name: str
    count: int
    mean_ms: float | None
    min_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float | None
    #: (share, milliseconds) from the fastest to the slowest, for plots.
    curve: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """How often the split has chosen one served model."""

    served_model: str
    #: Per cent; None for a model that the config does not name.
    asked: float | None
    observed: float
    #: The interval that holds the true share; those of all models together, 95 % sure.
    low: float
    high: float
    count: int

    @property
    def as_asked(self) -> bool:
        """Whether what was seen fits what was asked for."""
        return self.asked is not None and self.low <= self.asked <= self.high


@dataclass(frozen=True, slots=True)
class Failure:
    """Failures of one kind."""

    kind: str
    count: int
    #: What the first one said.
    message: str


@dataclass(frozen=True, slots=True)
class Moment:
    """One stretch of time."""

    #: Seconds from the beginning to its beginning.
    at: float
    #: Answers and failures a second.
    answered: float
    failed: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Subject:
    """What was tested, and how."""

    endpoint: str
    url: str
    #: The served models that were asked directly; empty when the split chose.
    served_models: tuple[str, ...]
    mode: Mode
    seconds: float
    #: When it began, ISO 8601.
    began: str
    config_version: int | None
    #: Per cent by served model, of the active config.
    asked: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    subject: Subject
    #: Seconds for which requests were sent; less than asked for when the user broke off.
    seconds: float
    interrupted: bool
    sent: int
    succeeded: int
    failed: int
    abandoned: int
    #: Good answers a second.
    throughput: float
    latency: Latency
    #: By served model, the largest share first.
    models: tuple[Latency, ...]
    split: tuple[Share, ...]
    phases: tuple[Latency, ...]
    failures: tuple[Failure, ...]
    moments: tuple[Moment, ...]
    comparison: Comparison | None
    #: Share of a processor that the test itself took; how late it was with what was due, 99 of 100 times.
    busy: float
    lateness_p99_ms: float
    #: What to mind when reading this.
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        document = asdict(self)
        mode = self.subject.mode
        document["subject"]["mode"] = {"kind": "connections" if isinstance(mode, Closed) else "rate", **asdict(mode)}
        for share, of in zip(document["split"], self.split, strict=True):
            share["as_asked"] = of.as_asked
        if self.comparison is not None:
            document["comparison"]["words"] = self.comparison.words
            for difference, of_quantile in zip(
                document["comparison"]["differences"], self.comparison.differences, strict=True
            ):
                difference["real"] = of_quantile.real
        return document


def report(
    subject: Subject,
    tally: Tally,
    *,
    seconds: float,
    busy: float = 0.0,
    abandoned: int = 0,
    interrupted: bool = False,
    notes: Sequence[str] = (),
) -> Report:
    """What the tally of a test that sent for so many seconds amounts to; `notes` are told beside its own."""
    whole = Histogram.sum(tally.latencies)
    in_time = sum(each.answered for each in tally.slices[:SLICES])
    lateness = tally.lateness.quantile(0.99) / 1e6
    by_size = sorted(tally.models.items(), key=lambda each: (-each[1].count, each[0]))
    phases = [(name, each) for name, each in tally.phases.items() if each.count]
    comparison = None
    if len(subject.served_models) == 2:
        comparison = compare(*subject.served_models, tally.slices)
    return Report(
        subject,
        seconds=seconds,
        interrupted=interrupted,
        sent=tally.sent,
        succeeded=tally.succeeded,
        failed=tally.failed,
        abandoned=abandoned,
        throughput=in_time / seconds if seconds else 0.0,
        latency=_latency("all", whole),
        models=tuple(_latency(name or "not named", each) for name, each in by_size),
        split=() if subject.served_models else split(subject.asked, tally.chosen),
        phases=tuple(_latency(name, each) for name, each in phases),
        failures=tuple(
            Failure(kind, each.count, each.message)
            for kind, each in sorted(tally.failures.items(), key=lambda item: -item[1].count)
        ),
        moments=_moments(tally, seconds),
        comparison=comparison,
        busy=busy,
        lateness_p99_ms=lateness,
        notes=(*notes, *_notes(subject, busy, lateness, whole)),
    )


def split(asked: Mapping[str, float], chosen: Mapping[str, int]) -> tuple[Share, ...]:
    """How the observed choices compare to the asked per cents; () when no answer named a model."""
    counts = {**dict.fromkeys(asked, 0), **{name: count for name, count in chosen.items() if name}}
    total = sum(counts.values())
    if not total:
        return ()
    bounds = intervals.shares(counts)
    return tuple(
        Share(name, asked.get(name), 100 * count / total, 100 * bounds[name][0], 100 * bounds[name][1], count)
        for name, count in sorted(counts.items(), key=lambda each: (-asked.get(each[0], 0.0), each[0]))
    )


def _latency(name: str, histogram: Histogram) -> Latency:
    if not histogram.count:
        return Latency(name, 0, None, None, None, None, None, None, None)
    p50, p90, p99, p999 = (value / 1e6 for value in histogram.quantiles(QUANTILES))
    return Latency(
        name,
        histogram.count,
        histogram.mean / 1e6,
        histogram.lowest / 1e6,
        *(p50, p90, p99, p999),
        histogram.highest / 1e6,
        _curve(histogram),
    )


def _curve(histogram: Histogram) -> tuple[tuple[float, float], ...]:
    """The quantiles at even steps of the number of nines, which is how tails are looked at."""
    nines = math.log10(max(10, histogram.count))
    steps = 80
    shares = [1 - 10 ** (-nines * step / steps) for step in range(steps)]
    return tuple(
        zip((*shares, 1.0), (*(v / 1e6 for v in histogram.quantiles(shares)), histogram.highest / 1e6), strict=True)
    )


def _moments(tally: Tally, seconds: float) -> tuple[Moment, ...]:
    width = tally.width / 1e9
    found = []
    for index, each in enumerate(tally.slices):
        began = index * width
        lasted = min(width, seconds - began)
        if index >= SLICES or lasted < width / 2:
            break  # what came after the end of sending, or hardly a stretch
        of_all = latencies([each])
        p50, p99 = of_all.quantiles((0.5, 0.99)) if of_all.count else (None, None)
        found.append(
            Moment(
                began,
                each.answered / lasted,
                each.failed / lasted,
                None if p50 is None else p50 / 1e6,
                None if p99 is None else p99 / 1e6,
            )
        )
    return tuple(found)


def _notes(subject: Subject, busy: float, lateness_ms: float, whole: Histogram) -> list[str]:
    notes = []
    if busy > _BUSY:
        notes.append(
            f"This program was itself busy {busy:.0%} of the time: what it measured is partly its own waiting. "
            "Ask for less, or from several machines."
        )
    if isinstance(subject.mode, Closed):
        notes.append(
            "Each connection waits for its answer before it asks again: a server that stalls is asked less, and its latencies "
            "look better than its users would find them. Use --rate to measure latency."
        )
    elif whole.count and lateness_ms > _LATE * whole.quantile(0.5) / 1e6:
        notes.append(
            f"Requests were sent up to {lateness_ms:.2f} ms late (p99) because this machine was busy; their latencies include that."
        )
    return notes
