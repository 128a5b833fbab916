"""What Wye is measured against: `mlflow models serve`, and MLServer in an environment of its own. Neither has Envoy before it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from benchmarks.client import Connection
from benchmarks.models import BODY, V2_BODY
from benchmarks.programs import Program, plain_environment, running, until

#: uvloop from 0.22 on breaks MLServer 1.7.1 at its start; the rest is what Wye has, so that both run the same model.
_MLSERVER = (
    "mlserver==1.7.1",
    "mlserver-mlflow==1.7.1",
    "uvloop<0.22",
    *(f"{name}=={version(name)}" for name in ("mlflow", "scikit-learn", "numpy", "pandas")),
)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wye-benchmarks"
#: The most requests of a batch, and the seconds it is waited for: of 1, 2, 5 and 10 ms the best at 64 connections.
MLSERVER_BATCH = (64, 0.005)


class UnavailableError(Exception):
    """A peer cannot be had on this machine; the text says why."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_serving(model: Path, folder: Path) -> Iterator[tuple[str, Program]]:
    """`mlflow models serve` of one model in this environment with one worker: where to POST, and the program."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    command += ["-h", "127.0.0.1", "-p", str(port), "-w", "1"]
    environment = plain_environment(MLFLOW_DISABLE_TELEMETRY="true")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    with running(command, folder / f"mlflow-{port}.log", environment) as program:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(program, url, "/invocations", BODY), 120, "mlflow models serve answers")
        yield f"{url}/invocations", program


@contextmanager
def mlserver_serving(
    models: Mapping[str, Path], folder: Path, batch: tuple[int, float] = MLSERVER_BATCH
) -> Iterator[tuple[dict[str, str], Program]]:
    """MLServer with adaptive batching, all models in one process: where to POST for each, and the program."""
    python = _mlserver_environment()
    http, grpc, metrics = _free_port(), _free_port(), _free_port()
    home = folder / f"mlserver-{http}"
    home.mkdir()
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    # Without the pool of processes: it is one process that is compared, and passing requests on to it costs more.
    settings |= {"parallel_workers": 0, "debug": False, "logging_settings": None}
    (home / "settings.json").write_text(json.dumps(settings))
    for name, path in models.items():
        (home / name).mkdir()
        described = {
            "name": name,
            "implementation": "mlserver_mlflow.MLflowRuntime",
            "max_batch_size": batch[0],
            "max_batch_time": batch[1],
            "parameters": {"uri": str(path)},
        }
        (home / name / "model-settings.json").write_text(json.dumps(described))
    command = [str(python.with_name("mlserver")), "start", str(home)]
    with running(
        command, folder / f"mlserver-{http}.log", plain_environment(MLFLOW_DISABLE_TELEMETRY="true")
    ) as program:
        url = f"http://127.0.0.1:{http}"
        for name in models:
            path = f"/v2/models/{name}/infer"
            until(lambda path=path: _answers(program, url, path, V2_BODY), 120, f"MLServer answers for {name}")
        yield {name: f"{url}/v2/models/{name}/infer" for name in models}, program


def _answers(program: Program, url: str, path: str, body: str) -> bool:
    program.check()
    with Connection(url) as client:
        return client.send(client.prepare("POST", path, body.encode())).status == 200


def _mlserver_environment() -> Path:
    """The Python of an environment with MLServer, which is built once and kept; raises UnavailableError."""
    digest = hashlib.sha256("\n".join([sys.version, *_MLSERVER]).encode()).hexdigest()[:10]
    home = _CACHE / f"mlserver-{digest}"
    python = home / "bin" / "python"
    if (home / "complete").exists():
        return python
    uv = Path(sys.executable).with_name("uv")
    for command in (
        [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
        [str(uv), "pip", "install", "--quiet", "--python", str(python), *_MLSERVER],
    ):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UnavailableError(f"MLServer is left out: {error}") from error
        if ran.returncode != 0:
            raise UnavailableError(f"MLServer is left out, it cannot be installed: {ran.stderr.strip()[-400:]}")
    (home / "complete").touch()
    return python
