"""A report as lines and tables that people read in a terminal. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controlplane.loadtest.report import Latency, Report, Share, Subject
from controlplane.loadtest.schedule import Closed

#: The columns of a table of latencies.
COLUMNS = ("count", "mean", "p50", "p90", "p99", "p99.9", "max")

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells under headers."""

    headers: Row
    rows: tuple[Row, ...]


def summary(report: Report) -> Iterator[str]:
    """What was tested and what came of it, in a few lines."""
    yield f"{what(report.subject)}, {how(report.subject)}, {report.seconds:.1f} s" + (
        " (interrupted)" if report.interrupted else ""
    )
    under_way = f", {report.abandoned:,} under way when it was interrupted" if report.abandoned else ""
    yield f"{report.sent:,} requests: {report.succeeded:,} answered, {report.failed:,} failed{under_way}"
    yield f"{report.throughput:,.1f} good answers a second"


def tables(report: Report) -> Iterator[Table]:
    """The figures; those there are none of are left out."""
    models = report.models if len(report.models) > 1 else ()
    yield Table(("latency, ms", *COLUMNS), tuple(_latency(each) for each in (report.latency, *models)))
    if report.split:
        split = tuple(
            (s.served_model, percent(s.asked), percent(s.observed), f"{percent(s.low)} – {percent(s.high)}", fits(s))
            for s in report.split
        )
        yield Table(("split", "asked", "observed", "95 % interval", ""), split)
    if report.phases:
        yield Table(("phase, ms", *COLUMNS), tuple(_latency(each) for each in report.phases))
    if report.failures:
        kinds = tuple((each.kind, f"{each.count:,}", each.message) for each in report.failures)
        yield Table(("failure", "count", "the first one said"), kinds)


def closing(report: Report) -> Iterator[str]:
    """What is said below the figures."""
    if report.comparison is not None:
        yield report.comparison.words
    if report.phases:
        yield "Phases are told by the replicas; rest is the network, Envoy, and waiting for either."
    yield from report.notes


def what(subject: Subject) -> str:
    """What was tested."""
    models = f" ({' and '.join(subject.served_models)})" if subject.served_models else ""
    return f"{subject.endpoint}{models} at {subject.url}"


def how(subject: Subject) -> str:
    """With what load."""
    mode = subject.mode
    plural = "" if mode.connections == 1 else "s"
    if isinstance(mode, Closed):
        return f"{mode.connections} connection{plural}"
    return f"{mode.rate:,g} requests/s over at most {mode.connections} connection{plural}"


def fits(share: Share) -> str:
    """Whether a share is what was asked for."""
    if share.asked is None:
        return "not in the config"
    return "as asked" if share.as_asked else "not as asked"


def percent(value: float | None) -> str:
    """A share as people read it."""
    return "" if value is None else f"{value:.2f}".rstrip("0").rstrip(".") + " %"


def milliseconds(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _latency(each: Latency) -> Row:
    values = (each.mean_ms, each.p50_ms, each.p90_ms, each.p99_ms, each.p999_ms, each.max_ms)
    return (each.name, f"{each.count:,}", *map(milliseconds, values))
