"""What Wye needs of others, so that it can be taken away: a PostgreSQL server, and a registry behind a gate."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.wye import until


class Postgres:
    """A PostgreSQL server of one's own, which is not started yet."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        on_path = shutil.which("initdb")
        if not found and not on_path:
            pytest.skip("PostgreSQL's server programs (initdb, postgres) are not installed")
        self._programs = found[-1].parent if found else Path(on_path or "").parent
        self._user: int | None = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            try:
                self._user = pwd.getpwnam("postgres").pw_uid
            except KeyError:
                pytest.skip("PostgreSQL does not run as root, and there is no user named postgres")
        self.home = Path(tempfile.mkdtemp(prefix="wye-pg-", dir="/tmp"))
        if self._user is not None:
            os.chown(self.home, self._user, -1)
        self._run("initdb", "-D", self.home / "data", "-U", "postgres", "-A", "trust", "--no-sync")
        self.url = f"postgresql://postgres@/postgres?host={self.home}"

    def start(self) -> None:
        """Answer."""
        options = f"-F -c listen_addresses='' -c unix_socket_directories='{self.home}'"
        self._run("pg_ctl", "-D", self.home / "data", "-w", "-l", self.home / "log", "-o", options, "start")

    def stop(self) -> None:
        """Break off."""
        self._run("pg_ctl", "-D", self.home / "data", "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Leave nothing."""
        if (self.home / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.home)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd="/")


class Gate:
    """A port that leads to another while it is open, and refuses connections while it is closed."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.port = 0
        self.open()

    def open(self) -> None:
        """Let everybody through."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def close(self) -> None:
        """Let nobody through, and break off those who are."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for each in self._pairs:
            for end in each:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listener.accept()
                other = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((one, other))
                for source, target in ((one, other), (other, one)):
                    threading.Thread(target=_copy, args=[source, target], daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def mlflow_server(store: str, folder: Path) -> Iterator[int]:
    """The port of a real MLflow server on a registry's database."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--default-artifact-root", str(folder)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "mlflow-server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:

        def answers() -> bool:
            assert server.poll() is None, (folder / "mlflow-server.log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
            return False

        until(answers, 120, "the MLflow server answers")
        yield port
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
