"""How many predictions a second, and how late, against what else serves an MLflow model?

One row in, one number out; a linear scikit-learn model and a forest of 100 trees; 1, 16 and 64 connections. Wye is asked
through Envoy with its token checked, as it runs by default, with one replica. `mlflow models serve` (one worker) and
MLServer (adaptive batching, one process) are asked directly. An upstream that does nothing behind the same Envoy is the
limit. All servers run at the same time and take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.load import Found, take_turns, wrk
from benchmarks.models import BODY, V2_BODY, artifacts, registered
from benchmarks.plane import Plane
from benchmarks.plot import bars
from benchmarks.report import Figure, Report, Table, median
from tests.e2e.wye import Wye, config

MODELS = ("linear", "forest")
CONNECTIONS = (1, 16, 64)
WYE, MLFLOW, MLSERVER, NOOP = "Wye through Envoy", "mlflow models serve", "MLServer", "no-op through Envoy"
#: model → peer → times as many requests a second at 64 connections
RATES = {"linear": {MLFLOW: 40, MLSERVER: 8}, "forest": {MLFLOW: 20, MLSERVER: 3}}
#: Times the p50 of `mlflow models serve` at one connection.
LATENCY = 0.25

Load = Callable[[int], Found]


def run(context: Context) -> Report:
    report = Report("throughput", "")
    seconds, rounds = (2, 2) if context.quick else (3, 5)
    registry = registered(context.folder)
    with ExitStack() as running:
        loads = _servers(running, registry, context, report, seconds)
        found: dict[tuple[str, str, int], list[Found]] = {}
        for connections in CONNECTIONS:
            for model in MODELS:
                contenders = {name: partial(load, connections) for name, load in loads[model].items()}
                for name, runs in take_turns(rounds, contenders).items():
                    found[model, name, connections] = runs
            context.say(f"{connections} connections measured")
    _tell(report, found, rounds, seconds)
    return report


def _servers(
    running: ExitStack, registry: str, context: Context, report: Report, seconds: int
) -> dict[str, dict[str, Load]]:
    """Start everything; for each model the contenders, by name."""
    paths = {model: artifacts(registry, model) for model in MODELS}
    wye = Wye(context.folder / "s", registry=registry)
    running.callback(wye.stop)
    plane = running.enter_context(Plane(context.folder / "noop", 1, envoy_threads=0))
    plane.until_serving()
    loads: dict[str, dict[str, Load]] = {}
    mlserver = _mlserver(running, paths, context, report)
    for model in MODELS:
        wye.create(model, config({"m": 100}, m=f"{model}/1"))
        url = f"{wye.url}/serving-endpoints/{model}/invocations"
        loads[model] = {WYE: _load(url, BODY, seconds, wye.token)}
        url, _ = running.enter_context(peers.mlflow_serving(paths[model], context.folder))
        _see_equal(wye, model, url, BODY, "predictions")
        loads[model][MLFLOW] = _load(url, BODY, seconds)
        if mlserver:
            _see_equal(wye, model, mlserver[model], V2_BODY, "outputs")
            loads[model][MLSERVER] = _load(mlserver[model], V2_BODY, seconds)
        context.say(f"{model}: all servers answer, and the same")
    url = f"{plane.url}/serving-endpoints/{plane.names[0]}/invocations"
    loads["linear"][NOOP] = _load(url, BODY, seconds, plane.token)
    return loads


def _mlserver(running: ExitStack, paths: dict[str, Path], context: Context, report: Report) -> dict[str, str]:
    try:
        urls, _ = running.enter_context(peers.mlserver_serving(paths, context.folder))
    except (peers.UnavailableError, RuntimeError, TimeoutError) as error:
        context.say(str(error))
        report.notes.append(str(error))
        return {}
    size, seconds = peers.MLSERVER_BATCH
    report.notes.append(
        f"MLServer 1.7.1 batches at most {size} requests, for which it waits {seconds * 1000:g} ms; it is sent the Open "
        "Inference Protocol, because its /invocations does not batch."
    )
    return urls


def _load(url: str, body: str, seconds: int, token: str = "") -> Load:
    return lambda connections: wrk(url, body, connections=connections, seconds=seconds, token=token)


def _see_equal(wye: Wye, model: str, url: str, body: str, key: str) -> None:
    """What is compared must be the same prediction."""
    ours = wye.client.post(
        f"/serving-endpoints/{model}/invocations", content=BODY, headers={"content-type": "application/json"}
    )
    host, _, path = url.removeprefix("http://").partition("/")
    with Connection(f"http://{host}") as client:
        theirs = client.send(client.prepare("POST", f"/{path}", body.encode())).json()[key][0]
    value = theirs["data"][0] if isinstance(theirs, dict) else theirs
    assert abs(ours.json()["predictions"][0] - value) < 1e-9, (ours.text, value)


def _tell(report: Report, found: dict[tuple[str, str, int], list[Found]], rounds: int, seconds: int) -> None:
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
    failed = sum(each.failed for (_, name, _), runs in found.items() if name == WYE for each in runs)
    report.figures.append(Figure.at_most("failed requests of Wye", failed, 0, ""))
    report.tables = [
        Table(
            f"Median of {rounds} rounds of {seconds} s",
            ("Model", "Connections", "Server", "req/s", "least", "most", "p50, ms", "p99, ms", "failed"),
            [
                [
                    model if name != NOOP else "none",
                    connections,
                    name,
                    median([each.rate for each in runs]),
                    min(each.rate for each in runs),
                    max(each.rate for each in runs),
                    median([each.p50_ms for each in runs]),
                    median([each.p99_ms for each in runs]),
                    sum(each.failed for each in runs),
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
