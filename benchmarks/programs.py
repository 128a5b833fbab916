"""Programs that a benchmark starts and ends by their process ids, and what they take of the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")


class Program:
    """A running program whose output is in `log`."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.command = list(command)
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=dict(environment) if environment is not None else None,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """Raise when it has ended."""
        if self.process.poll() is not None:
            words = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.command[0]} ended with {self.process.returncode}:\n{words}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, patience: float = 10.0) -> None:
        """End it and every process it started."""
        family = _family(self.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[Program]:
    """A program that runs for as long as the block lasts."""
    program = Program(command, log, environment, cwd)
    try:
        yield program
    finally:
        program.stop()


def until(condition: Callable[[], T], timeout: float, what: str, pause: float = 0.005) -> T:
    """The first true value of `condition`; errors of a server that is not there yet count as false."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = condition()
        except (OSError, ValueError, KeyError):
            value = None  # type: ignore[assignment]
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {timeout:g} s: {what}")
        time.sleep(pause)


def rss_mb(pid: int) -> float:
    """Resident memory of one process."""
    return psutil.Process(pid).memory_info().rss / 1e6


def cpu_seconds(pid: int) -> float:
    """What one process has used of the processors since it began."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def pss_mb(pid: int) -> float:
    """Memory of one process, with each page that several share divided among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"no PSS of {pid}")


def plain_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would configure Wye or MLflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WYE_", "MLFLOW_"))}
    return {**kept, **more}


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
