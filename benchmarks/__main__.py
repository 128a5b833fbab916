"""`python -m benchmarks [name …] [--quick]`: run them, print what they found, keep it in `benchmarks/results`."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.context import Context
from benchmarks.report import Report, busy_seconds, machine, own_seconds

NAMES = (
    "update_latency",
    "lossless",
    "endpoints_scale",
    "throughput",
    "instructions",
    "memory",
    "bundle",
    "neighbours",
    "auth_overhead",
    "cold_start",
    "idle_fleet",
    "step_load",
    "overload",
    "load_generator",
    "page",
)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("names", nargs="*", metavar="name", help=f"which: {', '.join(NAMES)}; all when left away")
    arguments.add_argument("--quick", action="store_true", help="fewer and shorter rounds; the results are not kept")
    given = arguments.parse_args()
    if unknown := set(given.names) - set(NAMES):
        arguments.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    missed = 0
    for name in given.names or NAMES:
        report = _run(name, quick=given.quick)
        print(report.markdown(), flush=True)
        if not given.quick:
            report.save()
        missed += sum(figure.met is False for figure in report.figures)
    print(f"{missed} budgets missed" if missed else "All budgets met.")
    return 0


def _run(name: str, *, quick: bool) -> Report:
    benchmark = importlib.import_module(f"benchmarks.{name}")
    # Short, because a Unix socket's path may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="wb"))
    began = time.monotonic()
    here, before = machine(), (busy_seconds(), own_seconds())
    try:
        report: Report = benchmark.run(
            Context(folder, quick, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.question = " ".join((benchmark.__doc__ or "").split("\n\n")[0].split())
    took = time.monotonic() - began
    others = (busy_seconds() - before[0] - (own_seconds() - before[1])) / took
    report.machine = {
        **here,
        "took": f"{took:.0f} s",
        "cores that other programs used meanwhile": round(max(0.0, others), 2),
    }
    return report


if __name__ == "__main__":
    sys.exit(main())
