"""Models that are not on this machine: fetched once per host from a real MLflow server that serves artifacts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mlflow_server import mlflow_server
from tests.model_worker.hosting import RunningHost, predict
from tests.model_worker.saved_models import SavedModels

ROW = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}


@dataclass
class Server:
    """An MLflow server, and the URIs of two models that it has."""

    url: str
    process: subprocess.Popen[bytes]
    linear: str
    other: str


@pytest.fixture
def server(models: SavedModels, tmp_path: Path, mlflow_tables: Path) -> Iterator[Server]:
    """A server with artifacts of its own, as in `docker compose`."""
    artifacts = ("--serve-artifacts", "--artifacts-destination", str(tmp_path / "artifacts"))
    with mlflow_server(f"sqlite:///{shutil.copy(mlflow_tables, tmp_path)}", tmp_path, *artifacts) as running:
        from mlflow import MlflowClient

        client = MlflowClient(running.url)
        run = client.create_run(client.create_experiment("e")).info
        client.log_artifacts(run.run_id, str(models("linear")), "linear")
        client.log_artifacts(run.run_id, str(models("from_code")), "other")
        assert run.artifact_uri.startswith("mlflow-artifacts:/")
        yield Server(running.url, running.process, f"{run.artifact_uri}/linear", f"{run.artifact_uri}/other")


@pytest.mark.timeout(400)  # on a busy machine MLflow's server takes a minute to start
def test_a_remote_model_is_fetched_once(server: Server) -> None:
    """Three replicas at once fetch it once, a later one needs no server, and what is not used any more makes room."""
    host = RunningHost("--artifacts-megabytes", "0", variables={"MLFLOW_TRACKING_URI": server.url})
    try:
        control = host.control()
        for number in range(3):
            control.start(f"r{number}", server.linear)
        states = [control.until(f"r{number}", "READY", "FAILED") for number in range(3)]
        assert [round(predict(state, ROW)[0], 6) for state in states] == [4.0] * 3
        cache = host.directory / "artifacts-cache"
        [linear] = cache.glob("*.done")
        assert (linear.with_suffix("") / "model" / "MLmodel").exists()
        assert f"fetching {server.linear}" in control.logs("r2", kind="build")
        os.kill(states[0]["pid"], signal.SIGKILL)
        control.until("r0", "FAILED")
        began = linear.stat().st_ctime_ns
        control.ready("r0", server.linear)
        assert linear.exists()
        assert linear.stat().st_ctime_ns >= began
        control.ready("other", server.other)
        assert len(list(cache.glob("*.done"))) == 2, "a model that is in use stays"
        for number in range(3):
            control.stop(f"r{number}")
            control.until_gone(f"r{number}")
        control.start("nowhere", f"{server.other}/nowhere")
        failed = control.until("nowhere", "FAILED", "READY")
        assert failed["message"]
        assert failed["pid"] is None
        os.killpg(server.process.pid, signal.SIGSTOP)
        control.ready("again", server.other)
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
        host.end()


def test_a_server_that_is_away_may_come_back(tmp_path: Path) -> None:
    """A model that cannot be fetched for lack of a server is no reason to give it up for good."""
    variables = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    host = RunningHost(variables=variables)
    try:
        control = host.control()
        control.start("r", "mlflow-artifacts:/0/run/artifacts/model")
        failed = control.until("r", "FAILED", "READY")
        assert "127.0.0.1" in failed["message"]
        assert not failed["permanent"]
    finally:
        host.end()
