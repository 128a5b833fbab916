"""All of Wye in containers, from the repository's own compose file: built, started, watched and taken down."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.compose import stand_ins
from tests.compose.stand_ins import docker
from tests.e2e.wye import Wye

ROOT = Path(__file__).parents[2]
#: Names of our own, so that nobody's containers, volumes or images are touched.
PROJECT = f"wye-test-{os.getpid()}"
OWN_IMAGES = ("envoy", "controlplane", "worker", "mlflow", "prometheus")


class Composed(Wye):
    """The composed system as its users see it: a public port, MLflow's port, and `docker compose`."""

    def __init__(self, compose: list[str]) -> None:
        self._compose = compose
        self._scratch = tempfile.TemporaryDirectory(prefix="wye-compose-")
        self._port, self._mlflow_port = _free_ports(2)
        self.client = httpx.Client()
        self.made: list[str] = []
        #: What this run has measured, in the order in which it did.
        self.figures: list[tuple[str, str]] = []
        # Base images that could not be pulled mean that there is no network for containers to build in, but the machine's.
        self._override = Path(self._scratch.name) / "override.yml"
        on_host = {"build": {"network": "host"}}
        self._override.write_text(json.dumps({"services": dict.fromkeys(OWN_IMAGES[:4], on_host)}))

    # What it is

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self._mlflow_port}"

    @property
    def token(self) -> str:
        return self.compose("exec", "-T", "controlplane", "wye", "tokens", "admin").strip()

    def container(self, service: str) -> str:
        return self.compose("ps", "--quiet", service).strip()

    # What one does with it

    def compose(self, *arguments: str, timeout: float = 600) -> str:
        """What a `docker compose` command printed on its standard output."""
        command = [*self._compose, "--project-name", PROJECT, "--file", str(ROOT / "docker-compose.yml")]
        if self.made:
            command += ["--file", str(self._override)]
        variables = {"WYE_VERSION": PROJECT, "WYE_PORT": self._port, "WYE_MLFLOW_PORT": self._mlflow_port}
        done = subprocess.run(
            [*command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **variables, "DOCKER_BUILDKIT": "1"},
        )
        if done.returncode != 0:
            logs = "" if arguments[0] == "logs" else self.compose("logs", "--tail", "30")
            raise AssertionError(f"docker compose {' '.join(arguments)}: {done.stdout}{done.stderr}\n{logs}")
        return done.stdout

    def provide_bases(self) -> None:
        """See that the images that ours are made from are there."""
        dockerfiles = [ROOT / folder / "Dockerfile" for folder in (".", "envoy", "docker/prometheus")]
        bases = [name for file in dockerfiles for name in re.findall(r"(?m)^FROM (\S+:\S+)", file.read_text())]
        services = json.loads(self.compose("config", "--format", "json"))["services"]
        bases += [service["image"] for service in services.values() if ":" + PROJECT not in service["image"]]
        self.made = stand_ins.provide(dict.fromkeys(bases))

    def up(self) -> None:
        """Start it, and return when it is healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", "600")
        self.client.close()
        headers = {"authorization": f"Bearer {self.token}"}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def restart(self, service: str) -> None:
        """Restart one service as an operator would."""
        self.compose("restart", service)

    def measured(self, what: str, began: float) -> None:
        """Note the seconds since `began`."""
        self.figures.append((what, f"{time.monotonic() - began:.1f} s"))

    def remove(self) -> None:
        """Leave nothing behind: no container, volume, network or image of ours."""
        self.client.close()
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")
        ours = [f"wye-{name}:{PROJECT}" for name in OWN_IMAGES]
        present = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
        leftovers = [name for name in (*ours, *reversed(self.made)) if name in present]
        if leftovers:
            docker("image", "rm", "--force", *leftovers)
        self._scratch.cleanup()

    # What the engine says of it

    def inspect(self, service: str) -> dict[str, Any]:
        """All that the engine knows of a service's container."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.container(service)))
        return found[0]

    def memory(self) -> dict[str, str]:
        """What each container uses at this moment."""
        lines = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines()
        ours = [line.removeprefix(f"{PROJECT}-").split()[:2] for line in lines if line.startswith(PROJECT)]
        return {name.rpartition("-")[0]: used for name, used in ours}

    def sizes(self) -> dict[str, str]:
        """How large our images are, layers of their bases included, and those bases."""
        wanted = [f"wye-{name}:{PROJECT}" for name in OWN_IMAGES[:4]]
        sizes = {name.partition(":")[0]: int(docker("inspect", "--format", "{{.Size}}", name)) for name in wanted}
        return {name: f"{size / 1e6:.0f} MB" for name, size in sizes.items()}


def _free_ports(count: int) -> list[str]:
    """Ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(probe.getsockname()[1]) for probe in probes]
