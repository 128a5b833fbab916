"""How many instructions does Envoy's worker thread carry out for a request, and what for?

Valgrind counts them, so that the answer is the same to a per mille however busy the machine is. One connection, the tiny upstream; the
parts are differences between Envoys that have them and that do not. The kernel's part, a quarter of the time, is not in it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.models import BODY
from benchmarks.plain_envoy import plain_envoy
from benchmarks.plane import Plane
from benchmarks.programs import Program
from benchmarks.report import Figure, Report, Table

REQUESTS = 400
ALL, NO_LOG, NO_TOKENS, PLAIN = "as Wye runs it", "no access log", "no access log, no tokens", "only passes requests on"


def run(context: Context) -> Report:
    report = Report("instructions", "")
    missing = [program for program in ("valgrind", "callgrind_control") if not shutil.which(program)]
    if missing:
        report.notes.append(
            f"Not measured: {' and '.join(missing)} not installed (on Debian: apt-get install valgrind)."
        )
        return report
    found: dict[str, float] = {}
    for number, name in enumerate((ALL, NO_LOG, NO_TOKENS)):
        with _plane(context.folder / str(number), name) as plane:
            plane.until_serving()
            path = f"/serving-endpoints/{plane.names[0]}/invocations"
            found[name] = _per_request(plane.envoy, _counts(plane.settings.log_dir), plane.url, path, plane.token)
            if name == ALL:
                counts = _counts(context.folder)
                with plain_envoy(plane.upstream_socket, context.folder, under=_valgrind(counts)) as (url, envoy):
                    found[PLAIN] = _per_request(envoy, counts, url, "/invocations", "")
        context.say(f"{name}: {found[name]:,.0f}")
    rows = [[name, round(found[name], -2), found[name] / found[ALL]] for name in (ALL, NO_LOG, NO_TOKENS, PLAIN)]
    report.tables.append(Table(f"Instructions of a request, of {REQUESTS}", ("Envoy", "instructions", "x"), rows))
    parts = {
        "access log": found[ALL] - found[NO_LOG],
        "tokens and permissions": found[NO_LOG] - found[NO_TOKENS],
        "everything else of Wye's": found[NO_TOKENS] - found[PLAIN],
    }
    report.figures += [Figure(f"{part}, of all", value / found[ALL], "x") for part, value in parts.items()]
    return report


@contextmanager
def _plane(folder: Path, name: str) -> Iterator[Plane]:
    plane = Plane(folder, 1, no_auth=name == NO_TOKENS)
    log = str(plane.settings.log_dir / "access.log")
    plane.settings = replace(plane.settings, access_log=log if name == ALL else "")
    plane.under = _valgrind(_counts(plane.settings.log_dir))
    with plane:
        yield plane


def _counts(folder: Path) -> Path:
    return folder / "callgrind"


def _valgrind(counts: Path) -> list[str]:
    options = ("--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", f"--callgrind-out-file={counts}")
    return ["valgrind", "--quiet", *options]


def _per_request(envoy: Program, counts: Path, url: str, path: str, token: str) -> float:
    """Instructions of the thread that had the most of them, which is the one that carries requests."""
    with Connection(url, token) as client:
        request = client.prepare("POST", path, BODY.encode())

        def ask(times: int) -> None:
            for _ in range(times):
                assert client.send(request).status == 200

        ask(50)
        _tell(envoy, "--instr=on")
        ask(20)
        _tell(envoy, "--zero")
        ask(REQUESTS)
        _tell(envoy, "--dump")
    threads = [
        re.search(r"^summary: (\d+)", each.read_text(), re.MULTILINE)
        for each in counts.parent.glob(f"{counts.name}.1-*")
    ]
    return max(int(each[1]) for each in threads if each) / REQUESTS


def _tell(envoy: Program, what: str) -> None:
    subprocess.run(["callgrind_control", what, str(envoy.pid)], check=True, capture_output=True)
