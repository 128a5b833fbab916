"""One process of a replica, as its host sees it: what it reports, whether it lives, what it takes, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from model_worker import pulse
from model_worker.allowance import Allowance, excess, megabytes
from model_worker.forks import Child, Forks, signal_name
from model_worker.listeners import Listener
from model_worker.pulse import Patience, Pulse
from model_worker.record import birth
from model_worker.task import Report, Task

#: Seconds between two tries to get an answer from a process that is starting and hung up on the first.
_PING_PAUSE = 0.05

_PING = b"GET /ping HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended."""

    #: In words: how, or why its host has ended it.
    how: str
    #: Its own report of why it could not go on, if it made one.
    failure: Report | None


class ReplicaProcess:
    """A process that was forked for a replica, or inherited from a former host."""

    def __init__(self, child: Child, heart: Pulse, channel: socket.socket) -> None:
        """`channel`: our end of what it reports through."""
        self._child = child
        self._pulse = heart
        self._channel = channel
        self._began = time.monotonic()
        self._ended_for = ""
        self._process: psutil.Process | None = None
        self._born = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process = psutil.Process(child.pid)
            self._born = birth(self._process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def born(self) -> float:
        """When it was made, as `birth` tells it; 0 if it had ended before anybody looked."""
        return self._born

    @property
    def serves(self) -> bool:
        """Whether it has ever answered."""
        return self._pulse[pulse.BEAT] > 0

    @property
    def is_at_work(self) -> bool:
        """Whether it has requests in hand."""
        return self._pulse[pulse.AT_WORK] > 0

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there still."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, number)

    def look(self, now: float, awake_since: float, allowance: Allowance, patience: Patience) -> None:
        """End it if it uses more memory than it may, or is dead in all but name.

        What was silent before `awake_since` may have been so because the host, or the whole machine, was.
        """
        if self._process is None or self._ended_for:
            return
        self._ended_for = _excess(self._process, allowance) or self._hang(self._process, now, awake_since, patience)
        if self._ended_for:
            self.signal(signal.SIGKILL)

    def _hang(self, process: psutil.Process, now: float, awake_since: float, patience: Patience) -> str:
        since = max(self._began, awake_since)
        if now - max(self._pulse[pulse.BEAT], since) <= patience.silent and not self._pulse[pulse.AT_WORK]:
            return ""  # the usual case, without a look at the process
        try:
            stopped = process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return ""
        words = pulse.verdict(self._pulse, now, since, patience, stopped=stopped)
        return f"ended because {words}" if words else ""

    async def attend(self, listener: Listener, progress: Callable[[str], None], ready: Callable[[], None]) -> Ending:
        """See it through to its end; `progress` hears how far it is, `ready` that it has answered at its `listener`."""
        reader, writer = await asyncio.open_unix_connection(sock=self._channel)
        failures: list[Report] = []
        reports = asyncio.create_task(_hear(reader, progress, failures.append), name=f"reports of process {self.pid}")
        ping = asyncio.create_task(_ping(listener, ready), name=f"ping of process {self.pid}")
        try:
            status = await self._child.ended
            if status is None:
                # Its fork server died, and it serves on.
                await _end_of(self.pid, reports)
            ping.cancel()
            # It has ended, so its reports have; but a process that the model left behind may hold the channel open.
            await asyncio.wait([reports], timeout=1)
        finally:
            ping.cancel()
            reports.cancel()
            writer.close()
            await asyncio.gather(ping, reports, return_exceptions=True)
        return Ending(self._ended_for or _how(status), failures[-1] if failures else None)


async def fork(task: Task, forks: Forks, listener: Listener, log: int) -> ReplicaProcess:
    """A new process that becomes the task's replica, on the socket that it is lent.

    Raises ForkError, OSError.
    """
    ours, theirs = socket.socketpair()
    memory = pulse.make()
    try:
        child = await forks.fork("replica", task.to_json(), [listener.socket.fileno(), log, theirs.fileno(), memory])
        return ReplicaProcess(child, pulse.at(memory), ours)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(memory)


def inherited(pid: int, heart: int, channel: socket.socket) -> ReplicaProcess:
    """A process that has lost the host that had it forked; `heart`: a descriptor of its pulse, which the caller closes."""
    child = Child(pid, asyncio.get_running_loop().create_future())
    child.ended.set_result(None)
    return ReplicaProcess(child, pulse.at(heart), channel)


async def _hear(
    reader: asyncio.StreamReader, progress: Callable[[str], None], failed: Callable[[Report], None]
) -> None:
    """Tell of the process's progress, and of its failure if it reports one."""
    with contextlib.suppress(ConnectionError):
        async for line in reader:
            report = Report.from_line(line)
            if report.failure:
                failed(report)
            else:
                progress(report.progress)


async def _ping(listener: Listener, ready: Callable[[], None]) -> None:
    """Say that it is ready as soon as it has answered: until it accepts, the ping waits in the socket's queue."""
    while not await _answers(listener):  # noqa: ASYNC110 - the event is an answer
        await asyncio.sleep(_PING_PAUSE)
    ready()


async def _answers(listener: Listener) -> bool:
    """Whether `GET /ping` on this socket is answered with 200; waits as long as the connection does."""
    try:
        if listener.path is not None:
            reader, writer = await asyncio.open_unix_connection(str(listener.path))
        else:
            host, port = listener.socket.getsockname()[:2]
            reader, writer = await asyncio.open_connection({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104
        try:
            writer.write(_PING)
            return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        finally:
            writer.close()
    except OSError:
        return False


async def _end_of(pid: int, reports: asyncio.Task[None]) -> None:
    """Return when a process has ended that is not our child; where the kernel does not tell, its end of the channel does."""
    if not hasattr(os, "pidfd_open"):
        await asyncio.wait([reports])
        return
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


def _excess(process: psutil.Process, allowance: Allowance) -> str:
    used = excess(process, allowance.memory) if allowance.memory else None
    if used is None:
        return ""
    return (
        f"used {megabytes(used)} of memory, more than the {megabytes(allowance.memory)} that a replica of "
        f"workload size {allowance.size} may use (WYE_REPLICA_MEMORY)"
    )


def _how(status: int | None) -> str:
    if status is None:
        return "ended; how is not known, for the process that started it had ended before"
    if os.WIFSIGNALED(status):
        return f"killed by {signal_name(os.WTERMSIG(status))}"
    return f"exited with code {os.WEXITSTATUS(status)}"
