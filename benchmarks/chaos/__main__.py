"""`make chaos`."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import benchmarks.chaos
from benchmarks.chaos.found import Found
from benchmarks.chaos.ordeal import chaos
from benchmarks.models import BODY, registered
from benchmarks.report import Figure, Report, Table, machine, percentile


def report(found: Found, seed: int, seconds: float) -> Report:
    """What was found as figures and a table."""
    kinds = Counter(event.kind for event in found.events)
    in_processes = [each for each in found.excused if (why := each.excuse(found.events)) and why.victim]
    made = Report("chaos", " ".join((benchmarks.chaos.__doc__ or "").split("\n\n`")[0].split()))
    made.figures = [
        Figure.at_most("failed requests without an excuse", len(found.unexcused), 0, ""),
        Figure("failed requests in the process of a killed replica", len(in_processes), ""),
        Figure(
            "failed requests that waited for a replica's successor when its host was killed too",
            len(found.excused) - len(in_processes),
            "",
        ),
        Figure("answered requests", sum(found.answered.values()), ""),
        Figure.at_most("updates that failed, and programs that did not come back", len(found.broken), 0, ""),
    ]
    made.tables = [
        Table("What happened", ("What", "Times"), [[what, count] for what, count in sorted(kinds.items())]),
        Table(
            "Answers",
            ("Endpoint", "Answered", "Failed with excuse", "Failed without"),
            [
                [
                    name,
                    found.answered[name],
                    sum(each.endpoint == name for each in found.excused),
                    sum(each.endpoint == name for each in found.unexcused),
                ]
                for name in sorted(found.answered)
            ],
        ),
    ]
    if found.seconds:
        made.notes.append(
            f"Seconds to an answer: p50 {percentile(found.seconds, 50):.4f}, p99 {percentile(found.seconds, 99):.3f}, "
            f"longest {max(found.seconds):.2f}."
        )
    made.notes += [f"Seed {seed}, {seconds:.0f} s."]
    made.notes += [each.line(found.events) for each in found.failures] + found.broken
    return made


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=benchmarks.chaos.__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--minutes", type=float, default=5.0)
    arguments.add_argument("--keep", action="store_true", help="keep the result in benchmarks/results")
    given = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wc"))
    here, began = machine(), time.monotonic()
    try:
        found = asyncio.run(
            chaos(
                folder,
                registered(folder),
                BODY.encode(),
                seed=given.seed,
                seconds=given.minutes * 60,
                say=lambda text: print(text, file=sys.stderr, flush=True),
            )
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    made = report(found, given.seed, given.minutes * 60)
    made.machine = {**here, "took": f"{time.monotonic() - began:.0f} s"}
    print(made.markdown())
    if given.keep:
        made.save()
    return 1 if found.unexcused or found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
