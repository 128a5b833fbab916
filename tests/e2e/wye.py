"""A running `wye up` for tests: started on a free port and a short-lived state directory, stopped without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from tests.processes import alive, command_line, descendants

T = TypeVar("T")
EXAMPLE = {"dataframe_records": [{"x": 1.0, "y": 2.0}]}


def until(condition: Callable[[], T], timeout: float = 30.0, what: str = "") -> T:
    """The first true value of `condition`, which is asked again and again until then."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not so within {timeout} s: {what or condition}"
        time.sleep(0.005)
    return value


class Wye:
    """A `wye up` process and a client of its public port."""

    def __init__(self, state_dir: Path, *arguments: str, registry: str = "", **environment: str) -> None:
        self.state_dir = state_dir
        command = [
            sys.executable,
            "-m",
            "controlplane.cli",
            "up",
            "--port",
            "0",
            "--state-dir",
            str(state_dir),
            *arguments,
        ]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WYE_", "MLFLOW_"))}
        registry_variable = {"WYE_MLFLOW_URI": registry} if registry else {}
        self._output = (state_dir.parent / f"{state_dir.name}.out").open("ab+")
        self._began = time.time()
        self.process = subprocess.Popen(
            command,
            env={**inherited, **registry_variable, **environment},
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        until(self._is_ready, 240, "wye up is ready")
        self.client = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {self.token}"},
            timeout=60,
            # Where it has to close idle connections it closes some under requests of other threads (httpcore issue 1110).
            limits=httpx.Limits(),
        )

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"wye up ended: {self.output()}"
        try:
            return (
                self.state_dir / "wye.json"
            ).stat().st_mtime >= self._began  # an older one is of a Wye that was killed
        except FileNotFoundError:
            return False

    # What it says of itself

    @property
    def about(self) -> dict[str, Any]:
        """What wye.json says now."""
        return json.loads((self.state_dir / "wye.json").read_text())

    @property
    def url(self) -> str:
        return self.about["url"]

    @property
    def token(self) -> str:
        return self.about["token"]

    def pid(self, program: str) -> int:
        """The process id of envoy, controlplane or worker_host."""
        return self.about["pids"][program]

    def output(self) -> str:
        """What it printed."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def log(self, program: str) -> str:
        """What a program logged."""
        return (self.state_dir / "logs" / f"{program}.log").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Everything that runs on this state directory."""
        found = []
        for process in psutil.process_iter():
            if str(self.state_dir) in command_line(process):
                found += [process, *descendants(process)]
        return list(dict.fromkeys(found))

    # What one does with it

    def kill(self, program: str) -> int:
        """Kill -9 a program; returns the process id it had."""
        pid = self.pid(program)
        os.kill(pid, signal.SIGKILL)
        return pid

    def create(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Create an endpoint and wait until it is deployed."""
        answer = self.client.post("/api/2.0/serving-endpoints", json={"name": name, "config": config})
        assert answer.status_code == 200, answer.text
        return self.settled(name)

    def update(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Update an endpoint's config and wait until that has succeeded or failed."""
        answer = self.client.put(f"/api/2.0/serving-endpoints/{name}/config", json=config)
        assert answer.status_code == 200, answer.text
        return self.settled(name)

    def remove(self, name: str) -> None:
        """Delete an endpoint, and return when its replicas are gone: other tests count them, or look at their files."""
        mine = self.get(name)["id"]
        assert self.client.delete(f"/api/2.0/serving-endpoints/{name}").json() == {}

        def gone() -> bool:
            replicas = self.client.get("/api/2.0/wye/status").json()["replicas"]
            return not [each for each in replicas if each["endpoint_id"] == mine]

        until(gone, 60, f"the replicas of {name} are gone")

    def get(self, name: str) -> dict[str, Any]:
        """The endpoint as the API shows it."""
        answer = self.client.get(f"/api/2.0/serving-endpoints/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def settled(self, name: str, timeout: float = 180.0) -> dict[str, Any]:
        """The endpoint once no update is in progress."""

        def done() -> dict[str, Any] | None:
            endpoint = self.get(name)
            return endpoint if endpoint["state"]["config_update"] != "IN_PROGRESS" else None

        return until(done, timeout, f"the update of {name} ends")

    def predict(self, name: str, served: str = "", body: Any = EXAMPLE) -> httpx.Response:
        """A prediction by the split, or straight from one served model."""
        direct = f"/served-models/{served}" if served else ""
        return self.client.post(f"/serving-endpoints/{name}{direct}/invocations", json=body)

    def value(self, name: str, served: str = "") -> float:
        """The one number that a linear model predicts for the example."""
        answer = self.predict(name, served)
        assert answer.status_code == 200, answer.text
        return round(answer.json()["predictions"][0], 6)

    def replicas(self, name: str = "") -> dict[str, int]:
        """Replica id → process id of those that are ready, of one endpoint or of all."""
        mine = self.get(name)["id"] if name else ""
        return {
            r["id"]: r["pid"]
            for r in self.client.get("/api/2.0/wye/status").json()["replicas"]
            if r["phase"] == "READY" and mine in {"", r["endpoint_id"]}
        }

    def sleeps(self, name: str, *entities: str) -> bool:
        """Whether these served entities of an endpoint, or all, sleep, and the processes that they had are gone."""
        mine = self.get(name)["id"]
        found = [r for r in self.client.get("/api/2.0/wye/status").json()["replicas"] if r["endpoint_id"] == mine]
        wanted = [r for r in found if not entities or r["served_entity"] in entities]
        return bool(wanted) and all(r["phase"] == "ASLEEP" and r["pid"] is None for r in wanted)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Stop it as a user would; returns the exit code. Fails if anything is left running, or the control plane erred."""
        running = self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signum)
        code = self.process.wait(60)
        self.client.close()
        self._output.close()
        until(lambda: not any(map(alive, running)), 60, f"nothing is left running of {running}")
        log = self.log("controlplane")
        assert "Traceback" not in log, log[log.find("Traceback") :]
        return code


def config(traffic: dict[str, int], **entities: str) -> dict[str, Any]:
    """A config body: `config({"a": 90, "b": 10}, a="linear/1", b="linear/2")`."""
    return {
        "served_entities": [
            {"name": name, "entity_name": model.split("/")[0], "entity_version": model.split("/")[1]}
            for name, model in entities.items()
        ],
        "traffic_config": {
            "routes": [{"served_model_name": name, "traffic_percentage": share} for name, share in traffic.items()]
        },
    }
