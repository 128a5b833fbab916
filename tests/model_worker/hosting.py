"""What tests need to run a real worker host: a control connection, requests over Unix sockets, and proof of its end."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]

#: Seconds that anything may take on a busy machine; nothing waits that long unless it fails.
PATIENCE = 60.0


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Return as soon as `condition` holds; fail, saying what was waited for, when it never does."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.005)


class Control:
    """One control plane's connection to a host: says commands, remembers what it was told."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self.hello = self.hear()
        self.replicas: dict[str, dict[str, Any]] = {replica["id"]: replica for replica in self.hello["replicas"]}
        self.messages: list[str] = []

    def hear(self) -> dict[str, Any]:
        """The next message."""
        line = self._lines.readline()
        assert line, "the host closed the connection"
        message: dict[str, Any] = json.loads(line)
        if message["type"] == "replica":
            self.replicas[message["replica"]["id"]] = message["replica"]
            self.messages.append(message["replica"]["message"])
        elif message["type"] == "gone":
            del self.replicas[message["id"]]
        return message

    def answer(self) -> dict[str, Any]:
        """The next message that is no report of the machine, which comes every few seconds."""
        while (message := self.hear())["type"] == "machine":
            pass
        return message

    def say(self, **message: Any) -> None:
        """Send one message."""
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def say_raw(self, line: bytes) -> None:
        """Send what may not be a message."""
        self._socket.sendall(line)

    def start(self, replica_id: str, artifact: Path | str, **fields: Any) -> None:
        """Ask for a replica; what it was before is forgotten."""
        if self.replicas.get(replica_id, {}).get("phase") == "FAILED":
            del self.replicas[replica_id]
        self.say(
            type="start", spec={"id": replica_id, "artifact_uri": str(artifact), "title": f"t/{replica_id}"} | fields
        )

    def stop(self, replica_id: str, grace: float = 30.0) -> None:
        """Ask for a replica's end."""
        self.say(type="stop", id=replica_id, grace=grace)

    def until(self, replica_id: str, *phases: str) -> dict[str, Any]:
        """The replica's state once it is in one of these phases."""
        while self.replicas.get(replica_id, {}).get("phase") not in phases:
            self.hear()
        return self.replicas[replica_id]

    def until_gone(self, replica_id: str) -> None:
        """Return once the replica is gone."""
        while replica_id in self.replicas:
            self.hear()

    def ready(self, replica_id: str, artifact: Path | str, **fields: Any) -> dict[str, Any]:
        """Start a replica; its state once it is READY."""
        self.start(replica_id, artifact, **fields)
        state = self.until(replica_id, "READY", "FAILED")
        assert state["phase"] == "READY", state
        return state

    def logs(self, replica_id: str, lines: int = 100, kind: str = "output") -> str:
        """What a replica printed, or how its environment was built."""
        self.say(type="logs", id=replica_id, lines=lines, request=1, kind=kind)
        while (message := self.hear())["type"] != "logs":
            pass
        text: str = message["text"]
        return text

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()


class RunningHost:
    """A host process in a directory of its own."""

    def __init__(self, *options: str, variables: dict[str, str] | None = None, directory: Path | None = None) -> None:
        # Short, for Unix sockets; pytest's own are not.
        self.directory = directory or Path(tempfile.mkdtemp(prefix="wye-", dir="/tmp"))
        self.address = self.directory / "host.sock"
        self.sockets = self.directory / "s"
        self._controls: list[Control] = []
        command = [sys.executable, "-m", "model_worker.host", "--listen", f"unix:{self.address}"]
        command += ["--socket-dir", str(self.sockets), "--log-dir", str(self.directory / "l"), *options]
        with (self.directory / "host.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | (variables or {}), start_new_session=True
            )
        wait_until(self._listens, f"the host listens; it said {self.output()}")

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.output()
        probe = socket.socket(socket.AF_UNIX)
        try:
            probe.connect(str(self.address))
        except OSError:
            return False
        finally:
            probe.close()
        return True

    def output(self) -> str:
        """What the host itself printed."""
        return (self.directory / "host.log").read_text()

    def control(self) -> Control:
        """A new control connection."""
        control = Control(self.address)
        self._controls.append(control)
        return control

    def processes(self) -> list[psutil.Process]:
        """The fork server and the replicas, whoever their parent is by now: they work in the host's directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd().startswith(str(self.directory)) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                pass
        return found

    def kill(self) -> None:
        """Kill -9 of the host alone."""
        for control in self._controls:
            control.close()
        self._controls.clear()
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it and prove that nothing is left: no process, no socket."""
        for control in self._controls:
            control.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        wait_until(lambda: not self.processes(), f"no process is left of {self.processes()}")
        sockets = list(self.directory.rglob("*.sock"))
        own = (
            {self.address, *self.sockets.glob("*-orphans.sock"), *self.sockets.glob("*-keeper.sock")}
            if self.process.returncode
            else set()
        )
        shutil.rmtree(self.directory)
        assert [path for path in sockets if path not in own] == []


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("replica", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def connection(state: dict[str, Any]) -> http.client.HTTPConnection:
    """An HTTP connection to a replica."""
    address = state["address"]
    if "path" in address:
        return _UnixConnection(address["path"])
    return http.client.HTTPConnection(address["host"], address["port"], timeout=PATIENCE)


def call(state: dict[str, Any], method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and body that a replica answers."""
    channel = connection(state)
    try:
        channel.request(method, target, body)
        answer = channel.getresponse()
        return answer.status, answer.read()
    finally:
        channel.close()


def predict(state: dict[str, Any], message: Any) -> Any:
    """The predictions for a JSON request that must succeed."""
    status, body = call(state, "POST", "/invocations", json.dumps(message).encode())
    assert status == 200, body
    return json.loads(body)["predictions"]
