"""Control planes on one PostgreSQL, one Envoy that knows them all, one worker host: each a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from controlplane import keys
from controlplane.settings import Settings
from controlplane.up import envoy
from controlplane.up.preflight import find_envoy, free_port
from tests.e2e.wye import Wye, until
from tests.processes import alive


class Planes(Wye):
    """As `Wye`, without `wye up`: programs by name, control planes `a`, `b`, …, each with an API of its own."""

    def __init__(self, folder: Path, database: str, registry: str, names: str = "ab", **environment: str) -> None:
        self.folder = self.state_dir = folder
        folder.mkdir()
        (folder / "logs").mkdir()
        self._inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("WYE_", "MLFLOW_"))
        }
        self._environment = environment | {"WYE_DATABASE_URL": database, "WYE_MLFLOW_URI": registry, "WYE_PORT": "0"}
        first = self._settings("a")
        self._port = free_port(first)
        self._environment |= {
            "WYE_PORT": str(self._port),
            "WYE_CONTROL_PLANES": ",".join(f"unix:{folder}/{name}.xds" for name in names),
            "WYE_KEYS_DIR": str(folder / "keys"),
            "WYE_WORKER_HOST_ADDRESS": f"unix:{folder}/host.sock",
            "WYE_ENVOY_ADMIN_ADDRESS": f"unix:{folder}/run/envoy-admin.sock",
        }
        self._token = keys.load_or_make(folder / "keys").admin_token
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        first.run_dir.mkdir()
        self._begin(
            "worker_host",
            *("-m", "model_worker.host", "--listen", f"unix:{folder}/host.sock"),
            *("--socket-dir", str(folder / "run"), "--log-dir", str(folder / "logs" / "replicas")),
        )
        for name in names:
            self.start(name)
        settings = self._settings("a")
        command = envoy.command(find_envoy(), settings, envoy.write_bootstrap(settings))
        self._run("envoy", command, {})
        self.client = httpx.Client(base_url=self.url, headers=self._authorization, timeout=60)
        until(self._serves, 120, "Envoy serves the API")

    def start(self, name: str, **other: str) -> None:
        """Start a control plane, for the first time or again, with `other` settings than the rest if there are any."""
        environment = self._settings(name).environment() | other
        self._run(name, [sys.executable, "-m", "controlplane"], environment)

    def send(self, name: str, signum: int) -> None:
        """Send a program a signal."""
        self.programs[name].send_signal(signum)

    def api(self, name: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask one control plane, as Envoy does for the admin."""
        transport = httpx.HTTPTransport(uds=f"{self.folder}/{name}.api")
        headers = {"x-wye-user": "admin", "x-wye-groups": ",admins,"}
        with httpx.Client(transport=transport, base_url="http://api", headers=headers, timeout=60) as client:
            return client.request(method, path, json=body)

    def stands_by(self, name: str) -> None:
        """Return when a control plane that was started (again) answers, though another acts."""

        def listens() -> bool:
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(f"{self.folder}/{name}.api") == 0

        until(listens, 60, f"{name} listens")
        until(lambda: self.api(name, "GET", "/api/2.0/wye/status").status_code == 200, 60, f"{name} stands by")
        assert self.acting() != name

    def acting(self) -> str:
        """Who acts, as Envoy's clients are told; "" when nobody answers."""
        try:
            found = self.client.get("/api/2.0/wye/status").json().get("control_planes", [])
        except (httpx.HTTPError, ValueError):
            return ""
        return next((each["name"] for each in found if each["acts"]), "")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def token(self) -> str:
        return self._token

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """End everything; 0 when all ended as they should."""
        running = self.processes()
        self.client.close()
        for name in ("envoy", *sorted(self.programs.keys() - {"envoy", "worker_host"}), "worker_host"):
            program = self.programs[name]
            if program.poll() is None:
                program.send_signal(signal.SIGCONT)
                program.send_signal(signum)
                program.wait(60)
        until(lambda: not any(map(alive, running)), 60, f"nothing is left running of {running}")
        return 0

    @property
    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"}

    def _settings(self, name: str) -> Settings:
        own = {
            "WYE_NAME": name,
            "WYE_XDS_ADDRESS": f"unix:{self.folder}/{name}.xds",
            "WYE_API_ADDRESS": f"unix:{self.folder}/{name}.api",
            "WYE_STATE_DIR": str(self.folder),
        }
        return Settings.read(self._environment | own)

    def _begin(self, name: str, *arguments: str) -> None:
        self._run(name, [sys.executable, *arguments], {})

    def _run(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self.programs[name] = subprocess.Popen(
                command,
                env=self._inherited | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _serves(self) -> bool:
        for name, program in self.programs.items():
            assert program.poll() is None, f"{name} ended: {self.log(name)}"
        try:
            return self.client.get("/api/2.0/wye/status").json()["worker_host"]["connected"]
        except (httpx.HTTPError, ValueError, KeyError):
            return False
