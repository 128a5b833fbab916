"""Child processes that are kept running: started, restarted when they end, and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_logger = logging.getLogger(__name__)

#: A process that lived this long (seconds) is restarted at once when it ends; one that did not waits a little.
STEADY = 5.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
#: Seconds that a program may still take to end when somebody is in a hurry.
LAST_PATIENCE = 5.0
#: Seconds between two looks whether a process is stopped.
LOOK_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """One of the programs that make up Wye."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    #: Seconds that it may take to end after SIGTERM.
    patience: float
    #: Seconds that its process may be stopped (SIGSTOP) before another takes its place.
    hang_after: float = 15.0


class Kept:
    """A program that is running, or about to run again; `starts` counts how often that was tried."""

    def __init__(self, program: Program, changed: Callable[[], None]) -> None:
        self.program = program
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._refused = ""

    @property
    def pid(self) -> int | None:
        """Its process id, or None while it is not running."""
        return self.process.pid if self.process and self.process.returncode is None else None

    def start(self) -> None:
        """Start it, and start it again whenever it ends, until `stop`."""
        self._task = asyncio.create_task(self._keep(), name=self.program.name)

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """End it: SIGTERM, then SIGKILL, for it and all that it started, when its patience is over.

        When `hurry` is set there is a second SIGTERM, and patience for LAST_PATIENCE seconds.
        """
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        ended = asyncio.create_task(process.wait())
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait())
        await asyncio.wait({ended, hurried}, timeout=self.program.patience, return_when=asyncio.FIRST_COMPLETED)
        if hurried.done() and not ended.done():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await asyncio.wait({ended}, timeout=min(LAST_PATIENCE, self.program.patience))
        hurried.cancel()
        if not ended.done():
            _kill_all(process.pid)
        await ended

    def last_words(self) -> str:
        """The last line of its log, or why it cannot even be started."""
        if self._refused:
            return self._refused
        lines = self.program.log.read_text(errors="replace").split("\n") if self.program.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing.")

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            self.starts += 1
            try:
                self.process = await self._launched()
                self._refused = ""
            except OSError as error:  # no memory, too many files, or its own file is just being replaced
                self._refused = str(error)
                _logger.warning("%s cannot be started: %s", self.program.name, error)
            else:
                await self._ended(self.process)
            if time.monotonic() - began >= STEADY:
                pause = FIRST_PAUSE
                continue
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _launched(self) -> asyncio.subprocess.Process:
        with self.program.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.program.command,
                env=dict(self.program.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for `wye up`, which stops the others in order
            )

    async def _ended(self, process: asyncio.subprocess.Process) -> None:
        """Return when it has ended."""
        self._changed()
        watching = asyncio.create_task(self._end_if_stopped(process), name=f"watch {self.program.name}")
        try:
            await process.wait()
        finally:
            watching.cancel()
        self._changed()

    async def _end_if_stopped(self, process: asyncio.subprocess.Process) -> None:
        """Kill it when the kernel has not let it run for too long: it cannot even notice that by itself.

        Looks are counted, for this process may have been stopped as well, and nobody be at fault.
        """
        looks = 0
        while looks * LOOK_INTERVAL <= self.program.hang_after:
            await asyncio.sleep(LOOK_INTERVAL)
            looks = looks + 1 if _is_stopped(process.pid) else 0
        _logger.error("%s was stopped for %.0f s: it is ended", self.program.name, self.program.hang_after)
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def _kill_all(pid: int) -> None:
    """Kill -9 of a process and of all that descend from it, which may well go on without it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        for process in [first, *first.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _birth(process: psutil.Process) -> float:
    """When it was made, in seconds since the machine was started: the time of day changes when somebody sets the clock."""
    booted = psutil.boot_time()  # first: some releases of psutil keep it, and add what they kept
    return process.create_time() - booted


def write_pids(path: Path, kept: Sequence[Kept]) -> None:
    """Note which processes are ours, so that a later `wye up` can end them if this one is killed."""
    found = {}
    for each in kept:
        if each.pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                found[each.pid] = _birth(psutil.Process(each.pid))
    beside = path.with_suffix(".new")
    try:
        beside.write_text(json.dumps(found))
        beside.replace(path)
    except OSError as error:  # a full disk, most likely: the programs run all the same
        _logger.warning("%s cannot be written: %s", path, error)


def end_orphans(path: Path, patience: float = 10.0) -> int:
    """End what a killed `wye up` left running, as noted in `path`; returns how many processes that were."""
    try:
        noted = {int(pid): float(began) for pid, began in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return 0
    orphans = []
    for pid, began in noted.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(_birth(process) - began) < 0.01:  # else the number belongs to another process by now
                orphans += [process, *process.children(recursive=True)]
    for process in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(orphans, timeout=patience)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=patience)
    path.unlink(missing_ok=True)
    return len(orphans)
