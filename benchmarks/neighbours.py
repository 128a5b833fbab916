"""What do twenty replicas of ten scikit-learn models take, and what does a neighbour that misbehaves cost the others?

A worker host alone, asked over its replicas' Unix sockets, so that nothing but the machine is shared. Twenty replicas, two
of each model, are started one after the other. Then one more replica crashes, sleeps, eats memory or prints 1 GB, as often
as the round allows, while each of the twenty is asked in turn on a connection of its own; its p99 is compared with a round
in which the neighbour does nothing, just before. Small replicas may use 700 MB, share the processors out and stand back.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import warnings
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sklearn import ensemble, linear_model, neighbors, svm, tree
from sklearn.base import BaseEstimator

from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.programs import pss_mb
from benchmarks.report import Figure, Report, Table, median, percentile
from tests.model_worker.hosting import Control, RunningHost, call
from tests.model_worker.saved_models import SavedModels

FEATURES = 8
BODY = json.dumps({"inputs": [[1.0] * FEATURES]}).encode()
MODELS: dict[str, Callable[[], BaseEstimator]] = {
    "linear": linear_model.LinearRegression,
    "ridge": linear_model.Ridge,
    "lasso": linear_model.Lasso,
    "Huber": linear_model.HuberRegressor,
    "SGD": linear_model.SGDRegressor,
    "tree": tree.DecisionTreeRegressor,
    "forest of 20": lambda: ensemble.RandomForestRegressor(20),
    "gradient boosting of 50": lambda: ensemble.GradientBoostingRegressor(n_estimators=50),
    "5 neighbours": neighbors.KNeighborsRegressor,
    "support vectors": svm.SVR,
}
#: What the neighbour does with each request.
MISDEEDS = {
    "crashes (SIGSEGV)": "os.kill(os.getpid(), signal.SIGSEGV)",
    "sleeps for ever": "time.sleep(1000)",
    "eats memory": "kept = [bytearray(1 << 20) for _ in range(2000)]; time.sleep(1000); return [len(kept)]",
    "prints 1 GB": "[sys.stdout.write(('x' * 99 + chr(10)) * 10_000) for _ in range(1000)]; return [1]",
}


def run(context: Context) -> Report:
    report = Report("neighbours", "")
    host = RunningHost("--memory", "700,0,0", "--cpus", "1,0,0", "--nice", "3")
    try:
        control = host.control()
        models = SavedModels(context.folder)
        replicas = _twenty(control, context, report)
        _bad_company(control, models, replicas, report, 1.0 if context.quick else 4.0, context)
    finally:
        host.end()
    return report


def _saved(folder: Path, name: str, make: Callable[[], BaseEstimator]) -> Path:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    random = np.random.default_rng(1)
    inputs = random.normal(size=(500, FEATURES))
    path = folder / name.replace(" ", "-")
    with warnings.catch_warnings(record=True):
        model = make().fit(inputs, inputs.sum(axis=1))
        signature = infer_signature(inputs, model.predict(inputs))
        mlflow.sklearn.save_model(
            model, str(path), signature=signature, pip_requirements=["mlflow"], serialization_format="cloudpickle"
        )
    return path


def _twenty(control: Control, context: Context, report: Report) -> dict[str, dict[str, Any]]:
    """Start them, two of each model; their states."""
    saved = {name: _saved(context.folder, name, make) for name, make in MODELS.items()}
    control.ready("first", saved["linear"])  # the fork server has imported everything when this is there
    took: dict[str, float] = {}
    replicas: dict[str, dict[str, Any]] = {}
    for copy in range(2):
        for name, path in saved.items():
            id_ = f"{name.replace(' ', '-')}-{copy}"
            began = time.perf_counter()
            replicas[id_] = control.ready(id_, path)
            took[id_] = time.perf_counter() - began
            with Connection(Path(replicas[id_]["address"]["path"])) as client:
                request = client.prepare("POST", "/invocations", BODY)
                for _ in range(50):
                    assert client.send(request).status == 200
    own = {id_: pss_mb(state["pid"]) for id_, state in replicas.items()}
    context.say("20 replicas measured")
    report.figures += [
        Figure.at_most("PSS of one of the 20 replicas, median", median(list(own.values())), 30, "MB"),
        Figure("PSS of the largest", max(own.values()), "MB"),
        Figure("start in the worker host, median", median(list(took.values())), "s"),
        Figure("the slowest start", max(took.values()), "s"),
    ]
    rows = [[id_, own[id_], took[id_]] for id_ in replicas]
    report.tables.append(Table("Each replica, when all twenty are there", ("Replica", "PSS, MB", "start, s"), rows))
    return replicas


class Neighbour(threading.Thread):
    """A replica that is asked to misbehave, and made again when that ends it, until it is told to stop."""

    def __init__(self, control: Control, model: Path) -> None:
        super().__init__()
        self._control, self._model = control, model
        self._over = threading.Event()
        self.times = 0

    def run(self) -> None:
        while not self._over.is_set():
            asking = threading.Thread(target=self._ask, args=(self._control.ready("bad", self._model),))
            asking.start()
            while asking.is_alive() and not self._over.is_set():
                asking.join(0.05)
            self.times += 1
            if not asking.is_alive() and psutil.pid_exists(self._control.replicas["bad"]["pid"] or 0):
                continue
            if not self._over.is_set():
                self._control.until("bad", "FAILED")
        self._control.stop("bad", grace=0)
        self._control.until_gone("bad")

    def _ask(self, state: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, HTTPException):
            call(state, "POST", "/invocations", b'{"inputs": [1]}')

    def stop(self) -> None:
        self._over.set()
        self.join()


def _bad_company(
    control: Control,
    models: SavedModels,
    replicas: dict[str, dict[str, Any]],
    report: Report,
    seconds: float,
    context: Context,
) -> None:
    rows: list[list[object]] = []
    for name, body in MISDEEDS.items():
        model = models.code(f"bad-{len(rows)}".replace("-", "_"), body=body)
        alone = _latencies(replicas, seconds)
        bad = Neighbour(control, model)
        bad.start()
        beside = _latencies(replicas, seconds)
        bad.stop()
        before, meanwhile = percentile(alone, 99), percentile(beside, 99)
        rows.append([name, bad.times, percentile(alone, 50), before, percentile(beside, 50), meanwhile])
        report.figures.append(Figure(f"p99 of the others beside one that {name}, to without", meanwhile / before, "×"))
        context.say(f"measured beside one that {name}")
    header = ("The neighbour", "times", "p50 without, ms", "p99 without, ms", "p50 meanwhile, ms", "p99 meanwhile, ms")
    report.tables.append(Table("Answers of the twenty, asked in turn; none failed", header, rows))


def _latencies(replicas: dict[str, dict[str, Any]], seconds: float) -> list[float]:
    """Milliseconds of each answer; fails when one is no answer."""
    took = []
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Connection(Path(state["address"]["path"]))) for state in replicas.values()]
        request = clients[0].prepare("POST", "/invocations", BODY)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for client in clients:
                began = time.perf_counter()
                assert client.send(request).status == 200
                took.append((time.perf_counter() - began) * 1e3)
    return took
