"""How many predictions a second, and how late, against what else serves an MLflow model?

One row in, one number out; a linear scikit-learn model and a forest of 100 trees; 1, 16 and 64 connections. Wye is asked
through Envoy with its token checked, as it runs by default, with one replica. `mlflow models serve` (one worker) and
MLServer (adaptive batching, one process) are asked directly. An upstream that does nothing behind the same Envoy is the
limit. All servers run at the same time and take turns. "µs of processor" is what all processes of a server together used
for one request: unlike the rate, it hardly depends on what else the machine does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks import peers
from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.load import Found, take_turns, wrk
from benchmarks.models import BODY, V2_BODY, artifacts, registered
from benchmarks.plane import Plane
from benchmarks.plot import bars
from benchmarks.programs import Program, cpu_seconds
from benchmarks.report import Figure, Report, Table, median
from tests.e2e.wye import Wye, config

MODELS = ("linear", "forest")
CONNECTIONS = (1, 16, 64)
WYE, MLFLOW, MLSERVER, NOOP = "Wye through Envoy", "mlflow models serve", "MLServer", "no-op through Envoy"
OPEN = "no-op through Envoy, no tokens"
#: model → peer → times as many requests a second at 64 connections
RATES = {"linear": {MLFLOW: 40, MLSERVER: 8}, "forest": {MLFLOW: 20, MLSERVER: 3}}
#: Times the p50 of `mlflow models serve` at one connection.
LATENCY = 0.25

#: (model, server, connections) → microseconds of processor time of a request, in all and in Envoy
Costs = dict[tuple[str, str, int], tuple[float, float | str]]


@dataclass(frozen=True)
class Contender:
    """Where to send what, and the processes that work on it."""

    url: str
    body: str
    token: str
    #: The first is Envoy, where there is one.
    processes: Callable[[], Sequence[psutil.Process]]

    def load(self, connections: int, seconds: int) -> tuple[Found, float, float]:
        """What wrk found, and the microseconds of processor time that a request took: in all, and in the first process."""
        before = self._used()
        found = wrk(self.url, self.body, connections=connections, seconds=seconds, token=self.token)
        used = [(after - b) / max(1, found.requests) * 1e6 for b, after in zip(before, self._used(), strict=True)]
        return found, sum(used), used[0]

    def _used(self) -> list[float]:
        return [cpu_seconds(process.pid) for process in self.processes()]


def run(context: Context) -> Report:
    report = Report("throughput", "")
    seconds, rounds = (2, 2) if context.quick else (3, 7)
    registry = registered(context.folder)
    found: dict[tuple[str, str, int], list[Found]] = {}
    costs: Costs = {}
    with ExitStack() as running:
        contenders = _servers(running, registry, context, report)
        for connections in CONNECTIONS:
            for model in MODELS:
                turns = {name: partial(each.load, connections, seconds) for name, each in contenders[model].items()}
                for name, runs in take_turns(rounds, turns).items():
                    found[model, name, connections] = [each for each, _, _ in runs]
                    costs[model, name, connections] = (
                        median([cost for _, cost, _ in runs]),
                        median([first for _, _, first in runs]) if "Envoy" in name else "",
                    )
            context.say(f"{connections} connections measured")
    _tell(report, found, costs, rounds, seconds)
    return report


def _servers(running: ExitStack, registry: str, context: Context, report: Report) -> dict[str, dict[str, Contender]]:
    """Start everything; for each model the contenders, by name."""
    paths = {model: artifacts(registry, model) for model in MODELS}
    wye = Wye(context.folder / "s", registry=registry)
    running.callback(wye.stop)
    planes = {
        NOOP: running.enter_context(Plane(context.folder / "noop", 1, envoy_threads=0)),
        OPEN: running.enter_context(Plane(context.folder / "open", 1, envoy_threads=0, no_auth=True)),
    }
    contenders: dict[str, dict[str, Contender]] = {}
    mlserver = _mlserver(running, paths, context, report)
    for model in MODELS:
        wye.create(model, config({"m": 100}, m=f"{model}/1"))
        url = f"{wye.url}/serving-endpoints/{model}/invocations"
        ours = partial(_with_children, wye.pid("envoy"), wye.pid("worker_host"))
        contenders[model] = {WYE: Contender(url, BODY, wye.token, ours)}
        url, program = running.enter_context(peers.mlflow_serving(paths[model], context.folder))
        contenders[model][MLFLOW] = Contender(url, BODY, "", partial(_with_children, program.pid))
        _see_equal(wye, model, contenders[model][MLFLOW], "predictions")
        if mlserver:
            urls, program = mlserver
            contenders[model][MLSERVER] = Contender(urls[model], V2_BODY, "", partial(_with_children, program.pid))
            _see_equal(wye, model, contenders[model][MLSERVER], "outputs")
        context.say(f"{model}: all servers answer, and the same")
    for name, plane in planes.items():
        plane.until_serving()
        url = f"{plane.url}/serving-endpoints/{plane.names[0]}/invocations"
        both = partial(_with_children, plane.envoy.pid, plane.upstream.pid)
        contenders["linear"][name] = Contender(url, BODY, plane.token, both)
    return contenders


def _with_children(*pids: int) -> list[psutil.Process]:
    return [each for pid in pids for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]


def _mlserver(
    running: ExitStack, paths: dict[str, Path], context: Context, report: Report
) -> tuple[dict[str, str], Program] | None:
    try:
        mlserver = running.enter_context(peers.mlserver_serving(paths, context.folder))
    except (peers.UnavailableError, RuntimeError, TimeoutError) as error:
        context.say(str(error))
        report.notes.append(str(error))
        return None
    size, seconds = peers.MLSERVER_BATCH
    report.notes.append(
        f"MLServer 1.7.1 batches at most {size} requests, for which it waits {seconds * 1000:g} ms; it is sent the Open "
        "Inference Protocol, because its /invocations does not batch."
    )
    return mlserver


def _see_equal(wye: Wye, model: str, other: Contender, key: str) -> None:
    """What is compared must be the same prediction."""
    ours = wye.client.post(
        f"/serving-endpoints/{model}/invocations", content=BODY, headers={"content-type": "application/json"}
    )
    host, _, path = other.url.removeprefix("http://").partition("/")
    with Connection(f"http://{host}") as client:
        theirs = client.send(client.prepare("POST", f"/{path}", other.body.encode())).json()[key][0]
    value = theirs["data"][0] if isinstance(theirs, dict) else theirs
    assert abs(ours.json()["predictions"][0] - value) < 1e-9, (ours.text, value)


def _tell(
    report: Report,
    found: dict[tuple[str, str, int], list[Found]],
    costs: Costs,
    rounds: int,
    seconds: int,
) -> None:
    def ratio(model: str, peer: str, connections: int, what: Callable[[Found], float]) -> float:
        pairs = zip(found[model, WYE, connections], found[model, peer, connections], strict=True)
        return median([what(ours) / what(theirs) for ours, theirs in pairs])

    for model in MODELS:
        for peer, least in RATES[model].items():
            if (model, peer, 64) in found:
                value = ratio(model, peer, 64, lambda each: each.rate)
                report.figures.append(
                    Figure.at_least(f"req/s, {model}, 64 connections, against {peer}", value, least, "x")
                )
    value = ratio("linear", MLFLOW, 1, lambda each: each.p50_ms)
    report.figures.append(Figure.at_most(f"p50, linear, 1 connection, against {MLFLOW}", value, LATENCY, "x"))
    value = ratio("forest", MLFLOW, 1, lambda each: each.p50_ms)
    report.figures.append(Figure(f"p50, forest, 1 connection, against {MLFLOW}", value, "x"))
    value = ratio("linear", NOOP, 64, lambda each: each.rate)
    report.figures.append(
        Figure("req/s, linear, 64 connections, against the limit (no-op upstream, same Envoy)", value, "x")
    )
    for model in MODELS:
        for peer in RATES[model]:
            if (model, peer, 64) in costs:
                value = costs[model, peer, 64][0] / costs[model, WYE, 64][0]
                name = f"processor time of a request, {model}, 64 connections, {peer} against Envoy and worker"
                report.figures.append(Figure(name, value, "x"))
    failed = sum(each.failed for (_, name, _), runs in found.items() if name == WYE for each in runs)
    report.figures.append(Figure.at_most("failed requests of Wye", failed, 0, ""))
    report.tables = [
        Table(
            f"Median of {rounds} rounds of {seconds} s",
            (
                "Model",
                "Connections",
                "Server",
                "req/s",
                "least",
                "most",
                "p50, ms",
                "p99, ms",
                "failed",
                "µs of processor",
                "of it Envoy",
            ),
            [
                [
                    model if name not in {NOOP, OPEN} else "none",
                    connections,
                    name,
                    median([each.rate for each in runs]),
                    min(each.rate for each in runs),
                    max(each.rate for each in runs),
                    median([each.p50_ms for each in runs]),
                    median([each.p99_ms for each in runs]),
                    sum(each.failed for each in runs),
                    *costs[model, name, connections],
                ]
                for (model, name, connections), runs in found.items()
            ],
        )
    ]
    report.plots["throughput.svg"] = bars(
        "Requests a second, one row, 64 connections",
        {
            model: {
                name: median([each.rate for each in runs])
                for (m, name, c), runs in found.items()
                if (m, c) == (model, 64)
            }
            for model in MODELS
        },
    )
