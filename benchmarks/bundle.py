"""What does `wye package` save in memory, and what does it cost in time?

Ten linear scikit-learn models, first as ten endpoints of one replica each, then, in another Wye, as one endpoint whose model
is a bundle of the ten. Memory is the PSS of the worker host and everything under it after 20 requests for each model, less
what it was with the replica of another model alone. Latency is the p50 of one keep-alive connection through Envoy, all models in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil

from benchmarks.client import Connection
from benchmarks.context import Context
from benchmarks.models import BODY, LINEAR_VERSIONS, registered
from benchmarks.programs import plain_environment, pss_mb
from benchmarks.report import Figure, Report, Table, percentile
from tests.e2e.wye import Wye, config

COUNT = 10
#: Name of each → the version that it is; a model that is in a bundle twice is loaded twice.
MODELS = {f"m{number}": f"linear/{1 + number % LINEAR_VERSIONS}" for number in range(COUNT)}
REQUESTS = 20


def run(context: Context) -> Report:
    report = Report("bundle", "")
    registry = registered(context.folder)
    package = [sys.executable, "-m", "controlplane.cli", "package", "--name", "bundle", "--mlflow-uri", registry]
    subprocess.run(
        [*package, *(f"{name}=models:/{version}" for name, version in MODELS.items())],
        env=plain_environment(MLFLOW_DISABLE_TELEMETRY="true"),
        check=True,
        capture_output=True,
    )
    rounds = 3 if context.quick else 15
    separate = {name: (name, BODY) for name in MODELS}
    bundled = {name: ("bundle", json.dumps(json.loads(BODY) | {"params": {"model": name}})) for name in MODELS}
    rows: list[list[object]] = []
    for words, endpoints, asked in (
        (f"{COUNT} replicas, one for each model", MODELS, separate),
        (f"one replica of a bundle of the {COUNT}", {"bundle": "bundle/1"}, bundled),
    ):
        wye = Wye(context.folder / f"s{len(rows)}", registry=registry)
        try:
            wye.create("before", config({"m": 100}, m="other/1"))  # the fork server is up then, and at rest
            _latencies(wye, [("before", BODY)], REQUESTS)
            before = _memory(wye)
            for name, version in endpoints.items():
                assert wye.create(name, config({"m": 100}, m=version))["state"]["ready"] == "READY"
            _latencies(wye, list(asked.values()), REQUESTS)
            memory = _memory(wye) - before
            rows.append([words, memory, percentile(_latencies(wye, list(asked.values()), rounds * REQUESTS), 50)])
        finally:
            wye.stop()
        context.say(f"{words}: {memory:.0f} MB")
    report.tables.append(Table("Ten linear models on one worker host", ("As", "memory, MB", "p50, ms"), rows))
    (_, many, quick), (_, one, slow) = rows
    report.figures += [
        Figure("memory of a bundle of ten, of that of ten replicas", float(str(one)) / float(str(many)), "×"),
        Figure("p50 of a bundle, of that of a model of its own", float(str(slow)) / float(str(quick)), "×"),
    ]
    return report


def _memory(wye: Wye) -> float:
    host = psutil.Process(wye.pid("worker_host"))
    return sum(pss_mb(each.pid) for each in (host, *host.children(recursive=True)))


def _latencies(wye: Wye, asked: Sequence[tuple[str, str]], times: int) -> list[float]:
    """Milliseconds of each request, of so many for each of the models in turn."""
    taken = []
    with Connection(wye.url, wye.token) as client:
        requests = [
            client.prepare("POST", f"/serving-endpoints/{name}/invocations", body.encode()) for name, body in asked
        ]
        for _ in range(times):
            for request in requests:
                began = time.perf_counter()
                assert client.send(request).status == 200
                taken.append((time.perf_counter() - began) * 1e3)
    return taken
