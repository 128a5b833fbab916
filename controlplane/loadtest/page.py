"""A report as one HTML file that needs nothing else: no script, no network, plots inline. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from math import log10

from controlplane.loadtest import plots, words
from controlplane.loadtest.plots import Axis, Interval, Line
from controlplane.loadtest.report import Latency, Report

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #667; --line: #e3e5ea; --paper: #fff; --card: #f7f8fa;
  --c0: #2457c5; --c1: #d9480f; --c2: #2b8a3e; --c3: #862e9c; --c4: #b08900; --c5: #0b7285; --bad: #c92a2a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa3b2; --line: #33373f; --paper: #16181c;
  --card: #1f2228; --c0: #7aa2ff; --c1: #ff8f5a; --c2: #69db7c; --c3: #da77f2; --c4: #ffd43b; --c5: #3bc9db; --bad: #ff8787; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto; max-width: 920px;
  padding: 32px 20px 64px; overflow-wrap: anywhere; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 36px 0 8px; } p { margin: 6px 0; }
.soft, .mark { color: var(--soft); fill: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.figures div { background: var(--card); border-radius: 8px; padding: 10px 16px; min-width: 110px; }
.figures b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.figures .bad b, .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 8px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.words, th.words { text-align: left; } th { color: var(--soft); font-weight: 500; }
.verdict { background: var(--card); border-left: 4px solid var(--c0); padding: 10px 16px; border-radius: 4px; }
figure { margin: 8px 0; } svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--ink); }
.grid { stroke: var(--line); } .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.meant { stroke: var(--ink); stroke-width: 2; stroke-dasharray: 3 3; } .dot { fill: var(--c0); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; color: var(--soft); font-size: 13px; }
.legend i { display: inline-block; width: 14px; height: 3px; margin-right: 6px; vertical-align: middle; }
""" + "".join(
    f".line.c{n} {{ stroke: var(--c{n}); }} i.c{n} {{ background: var(--c{n}); }}\n" for n in range(plots.COLOURS)
)


def page(report: Report) -> str:
    """The whole document."""
    title = f"Load test of {report.subject.endpoint}"
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Names and messages come from elsewhere: should one of them be more than text after all, it can do nothing.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            *_body(report, title),
            "</body></html>\n",
        )
    )


def _body(report: Report, title: str) -> Iterator[str]:
    subject = report.subject
    yield f"<h1>{escape(title)}</h1>"
    version = "" if subject.config_version is None else f", config version {subject.config_version}"
    yield f'<p class="soft">{escape(words.what(subject))}{version} · {escape(words.how(subject))} · {report.seconds:.1f} s'
    yield f"{' (interrupted)' if report.interrupted else ''} · began {escape(subject.began)}</p>"
    yield from _figures(report)
    if report.comparison is not None:
        yield f'<p class="verdict">{escape(report.comparison.words)}</p>'
    yield "<h2>Latency</h2>"
    tables = list(words.tables(report))
    yield _table(tables[0])
    if report.latency.count:
        yield _distribution(report)
        yield "<h2>Over time</h2>"
        yield _over_time(report)
        yield _rates(report)
    if report.split:
        yield "<h2>Split</h2>"
        shown = [Interval(s.served_model, s.low, s.observed, s.high, s.asked) for s in report.split]
        yield plots.intervals(plots.even("per cent of the requests; dashed: as asked", 100.0), shown)
    headings = {"split": "", "phase, ms": "Phases", "failure": "Failures"}
    for table in tables[1:]:
        if heading := headings[table.headers[0]]:
            yield f"<h2>{heading}</h2>"
        yield _table(table)
    yield "<h2>Notes</h2>" if any(words.closing(report)) else ""
    said = () if report.comparison is None else (report.comparison.words,)
    for line in words.closing(report):
        if line not in said:
            yield f'<p class="soft">{escape(line)}</p>'


def _figures(report: Report) -> Iterator[str]:
    figures = [
        ("good answers/s", f"{report.throughput:,.1f}", False),
        ("p50", f"{words.milliseconds(report.latency.p50_ms) or '–'} ms", False),
        ("p99", f"{words.milliseconds(report.latency.p99_ms) or '–'} ms", False),
        ("answered", f"{report.succeeded:,}", False),
        ("failed", f"{report.failed:,}", report.failed > 0),
    ]
    yield '<div class="figures">'
    for name, value, bad in figures:
        yield f'<div{" class=bad" if bad else ""}><b>{value}</b><span class="soft">{name}</span></div>'
    yield "</div>"


def _distribution(report: Report) -> str:
    shown: tuple[Latency, ...] = report.models if len(report.models) > 1 else (report.latency,)
    curves = [each for each in shown if each.curve]
    values = [value for each in curves for _, value in each.curve]
    nines = max(len(str(each.count)) for each in curves)
    marks = [(0.0, "0 %"), *((float(n), f"{100 - 10 ** (2 - n):.10g} %") for n in range(1, nines + 1))]
    across = Axis("of the requests are not slower than", marks, 0.0, float(nines))
    drawn = [
        Line(each.name, [(_nines(share, nines), value) for share, value in each.curve], index)
        for index, each in enumerate(curves)
    ]
    return plots.lines(across, plots.decades("milliseconds", values), drawn)


def _nines(share: float, most: int) -> float:
    """How many nines a share has; 1 is put at the end."""
    return float(most) if share >= 1 else min(float(most), -log10(1 - share))


def _over_time(report: Report) -> str:
    found = [value for each in report.moments for value in (each.p50_ms, each.p99_ms) if value is not None]
    drawn = [
        Line("p50", [(each.at, each.p50_ms) for each in report.moments], 0),
        Line("p99", [(each.at, each.p99_ms) for each in report.moments], 1),
    ]
    return plots.lines(_seconds(report), plots.decades("milliseconds", found), drawn)


def _rates(report: Report) -> str:
    highest = max((max(each.answered, each.failed) for each in report.moments), default=1.0)
    drawn = [Line("good answers a second", [(each.at, each.answered) for each in report.moments], 2)]
    if report.failed:
        drawn.append(Line("failures a second", [(each.at, each.failed) for each in report.moments], 1))
    return plots.lines(_seconds(report), plots.even("a second", highest), drawn)


def _seconds(report: Report) -> Axis:
    return plots.even("seconds since the beginning", report.seconds)


def _table(table: words.Table) -> str:
    wordy = {"the first one said"}
    head = "".join(f"<th{_class(name in wordy)}>{escape(name)}</th>" for name in table.headers)
    return f"<table><tr>{head}</tr>{''.join(_rows(table, wordy))}</table>"


def _rows(table: words.Table, wordy: set[str]) -> Iterable[str]:
    for row in table.rows:
        cells = zip(table.headers, row, strict=True)
        yield "<tr>" + "".join(f"<td{_class(name in wordy)}>{escape(cell)}</td>" for name, cell in cells) + "</tr>"


def _class(wordy: bool) -> str:
    return ' class="words"' if wordy else ""
