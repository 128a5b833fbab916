"""A real MLflow server, for tests that need one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

#: Seconds that it may take to start: on a busy machine MLflow needs a minute.
PATIENCE = 240.0


@dataclass
class MlflowServer:
    """One that runs."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def mlflow_server(store: str, folder: Path, *arguments: str) -> Iterator[MlflowServer]:
    """A server on a registry's database that answers; `arguments` say where its artifacts are, its log is in the folder."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), *arguments]
    variables = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nine more processes, each of which imports MLflow
    }
    said = folder / "mlflow-server.log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=variables, start_new_session=True)
    try:
        running = MlflowServer(f"http://127.0.0.1:{port}", process)
        deadline = time.monotonic() + PATIENCE
        while not _answers(running.url):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, f"the MLflow server does not answer: {said.read_text()}"
            time.sleep(0.05)
        yield running
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health").status_code == 200
    return False
