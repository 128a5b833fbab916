"""One replica as its host keeps it: a listening socket that stays, and processes that come and go behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from model_worker import protocol, pulse
from model_worker.allowance import SIZES, Allowance, Processors, excess, megabytes
from model_worker.artifacts import Artifacts, FetchError
from model_worker.environments import EnvironmentFailure, Environments
from model_worker.fork_servers import ForkServers
from model_worker.forks import Child, ForkError, Forks
from model_worker.keeping import Keeping
from model_worker.listeners import Listener, ListenerError, Listeners
from model_worker.logs import Logs
from model_worker.orphanage import Left, Orphan, identity
from model_worker.protocol import Spec, State
from model_worker.pulse import Patience, Pulse
from model_worker.replica_socket import ReplicaSocket
from model_worker.task import Limits, Report, Task
from model_worker.templates import Templates

_logger = logging.getLogger(__name__)

#: Seconds between two tries to get an answer from a process that is starting and hung up on the first.
_PING_PAUSE = 0.05

#: Lines of the log that go into the message of a replica that crashed.
_LAST_LINES = 5

#: Characters of a line of progress.
_LONGEST_PROGRESS = 300

_PING = b"GET /ping HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all replicas of a host share."""

    artifacts: Artifacts
    environments: Environments
    forks: ForkServers
    templates: Templates
    listeners: Listeners
    keeping: Keeping
    logs: Logs
    #: How each replica's environment was chosen and built.
    build_logs: Logs
    #: Each replica gets a directory in this one.
    directory: Path
    #: The variables that every model sees.
    variables: Mapping[str, str]
    limits: Limits
    #: By size of workload.
    allowances: Mapping[str, Allowance]
    processors: Processors
    #: Added to every replica's niceness.
    nice: int = 0
    #: Where replicas send their spans; "": nowhere.
    collector: str = ""
    patience: Patience = field(default_factory=Patience)
    #: Where replicas look for a new host when this one has died.
    orphanage: str = ""


class HostedReplica:
    """A replica from its first start until it is gone. `publish` hears every change of its state."""

    def __init__(self, spec: Spec, name: str, around: Surroundings, publish: Callable[[State], None]) -> None:
        """`name` is unique among all replicas there ever were, and fit for a file name."""
        self._name = name
        self._around = around
        self._directory = around.directory / name
        self._publish = publish
        self._socket = ReplicaSocket(name, around.listeners, around.keeping)
        self._child: Child | None = None
        self._process: psutil.Process | None = None
        self._pulse: Pulse | None = None
        self._began = 0.0
        self._born = 0.0
        self._environment = ""
        #: Why its process was ended, when it was ended for something that it did.
        self._ended_for = ""
        self._preparing: asyncio.Task[tuple[Task, Forks]] | None = None
        self._killing: asyncio.TimerHandle | None = None
        self._kill_at = float("inf")
        self._state = State(spec, protocol.STARTING, attempt=0)

    @property
    def state(self) -> State:
        """The replica as it is now."""
        return self._state

    @property
    def name(self) -> str:
        """What its socket and its directory are called."""
        return self._name

    @property
    def directory(self) -> Path:
        """Where its process works."""
        return self._directory

    @property
    def environment(self) -> str:
        """The key of the environment that it last ran in; "" when that is not known."""
        return self._environment

    @property
    def born(self) -> float:
        """When its process was made, seconds since the epoch; 0 while there is none."""
        return self._born

    def given(self, spec: Spec) -> None:
        """From now on it is to be started with this spec."""
        self._state = replace(self._state, spec=spec)

    def inherit(self, left: Left, kept: socket.socket | None) -> None:
        """Listen where a replica did that has no process any more, and wait to be started again.

        `kept`: the socket that its host had, if it is not lost. Raises ListenerError.
        """
        listener = self._socket.inherit(kept) if kept is not None else self._socket.again(left.address)
        self._update(
            phase=protocol.FAILED,
            address=listener.address,
            attempt=left.attempt,
            message="It ended together with its worker host.",
            holds_connections=True,
        )

    def adopt(self, orphan: Orphan) -> None:
        """Take over the process of a replica that has lost its host; `attend_adopted` has to follow."""
        listener = self._socket.inherit(orphan.listener)
        self._directory = orphan.directory
        self._pulse = pulse.at(orphan.pulse)
        os.close(orphan.pulse)
        self._child = Child(orphan.pid, asyncio.get_running_loop().create_future())
        self._child.ended.set_result(None)
        self._began = time.monotonic()
        self._know(orphan.pid)
        serves = self._pulse[pulse.BEAT] > 0
        self._update(
            phase=protocol.READY if serves else protocol.STARTING,
            address=listener.address,
            pid=orphan.pid,
            attempt=orphan.attempt,
            holds_connections=True,
        )

    async def attend_adopted(self, orphan: Orphan) -> None:
        """See the process of an adopted replica through to its end, as `attempt` does."""
        assert self._child is not None
        child, listener = self._child, self._socket.open()

        async def attend() -> None:
            with self._around.artifacts.held(self._state.spec.artifact_uri):
                await self._attend(child, orphan.channel, listener)

        await self._through(attend())

    def begin(self) -> None:
        """Say that there will be another attempt; `attempt` has to follow."""
        self._update(
            phase=protocol.STARTING, message="starting", permanent=False, pid=None, attempt=self._state.attempt + 1
        )

    async def attempt(self) -> None:
        """Start a process for it and see it through to its end: FAILED, or, if it was stopped, ready to be forgotten."""
        if self._state.phase != protocol.STOPPING:
            await self._through(self._run_process())

    async def _through(self, life: Coroutine[None, None, None]) -> None:
        try:
            await life
        except (EnvironmentFailure, FetchError) as error:
            self._fail(str(error), permanent=error.permanent)
        except (ForkError, ListenerError, OSError) as error:
            self._fail(str(error), permanent=False)
        except Exception as error:  # our own mistake must not leave a replica that nobody attends to
            _logger.exception("replica %s", self._state.spec.id)
            self._signal(signal.SIGKILL)
            self._fail(f"the worker host failed: {error!r}", permanent=False)
        finally:
            self._child = self._process = self._pulse = None
            self._ended_for = ""
            if self._killing is not None:
                self._killing.cancel()
            self._kill_at = float("inf")
            self._born = 0.0
            shutil.rmtree(self._directory, ignore_errors=True)

    def sleep(self, grace: float) -> None:
        """End the process of a READY replica within `grace` seconds; its socket stays, and what comes there waits."""
        if self._state.phase == protocol.READY:
            self._update(phase=protocol.ASLEEP, message="")
            self._end(grace)

    def listen(self) -> None:
        """Be ASLEEP before there ever was a process; where no socket can be had, be started at once, which will say why."""
        try:
            listener = self._socket.open()
        except ListenerError:
            self.begin()
            return
        self._update(phase=protocol.ASLEEP, message="", address=listener.address, holds_connections=True)

    async def roused(self) -> None:
        """Return when somebody connects to the socket of a replica that is ASLEEP, or when it is stopped."""
        await self._socket.wait()

    def stop(self, grace: float) -> None:
        """Let it finish what it has, for at most `grace` seconds; a stop that was sooner to end stays so."""
        if self._state.phase != protocol.STOPPING:
            self._update(phase=protocol.STOPPING, message="")
            self._socket.hide()
        if self._preparing is not None:
            self._preparing.cancel()
        self._end(grace)

    def _end(self, grace: float) -> None:
        """SIGTERM at once, the first time, and SIGKILL when `grace` is over."""
        loop = asyncio.get_running_loop()
        kill_at = loop.time() + grace
        if self._kill_at == float("inf"):
            self._signal(signal.SIGTERM)
        if kill_at < self._kill_at:
            self._kill_at = kill_at
            if self._killing is not None:
                self._killing.cancel()
            self._killing = loop.call_at(kill_at, self._signal, signal.SIGKILL)

    def close(self) -> None:
        """Leave no socket behind."""
        self._socket.close()

    async def _run_process(self) -> None:
        listener = self._socket.open()
        self._update(address=listener.address, holds_connections=True)
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        async with contextlib.AsyncExitStack() as until_it_ended:
            with os.fdopen(self._around.logs.open(self._state.spec.id, self._heading), "wb") as log:
                preparing = self._prepare(log.fileno(), until_it_ended)
                self._preparing = asyncio.create_task(preparing, name=f"prepare {self._name}")
                try:
                    task, forks = await self._preparing
                except asyncio.CancelledError:
                    if self._state.phase == protocol.STOPPING:
                        return
                    raise
                finally:
                    self._preparing = None
                child, channel = await self._fork(task, forks, listener, log.fileno())
            await self._attend(child, channel, listener)

    def look(self, now: float, awake_since: float) -> None:
        """End its process if that uses more memory than it may, or is dead in all but name.

        What was silent before `awake_since` may have been so because the host, or the whole machine, was.
        """
        if self._process is None or self._pulse is None or self._ended_for:
            return
        if self._state.phase not in {protocol.STARTING, protocol.READY}:
            return
        reason = self._excess() or self._hang(now, awake_since)
        if reason:
            self._ended_for = reason
            self._signal(signal.SIGKILL)

    def _excess(self) -> str:
        used = excess(self._process, self._allowance.memory) if self._process and self._allowance.memory else None
        if used is None:
            return ""
        return (
            f"used {megabytes(used)} of memory, more than the {megabytes(self._allowance.memory)} that a replica of "
            f"workload size {self._allowance.size} may use (WYE_REPLICA_MEMORY)"
        )

    def _hang(self, now: float, awake_since: float) -> str:
        assert self._pulse is not None
        assert self._process is not None
        since, patience = max(self._began, awake_since), self._around.patience
        if now - max(self._pulse[pulse.BEAT], since) <= patience.silent and not self._pulse[pulse.AT_WORK]:
            return ""  # the usual case, without a look at the process
        try:
            stopped = self._process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return ""
        words = pulse.verdict(self._pulse, now, since, patience, stopped=stopped)
        return f"ended because {words}" if words else ""

    @property
    def _allowance(self) -> Allowance:
        allowances = self._around.allowances
        return allowances.get(self._state.spec.workload_size) or allowances[SIZES[0]]

    @property
    def _heading(self) -> str:
        spec = self._state.spec
        return f"{spec.title or spec.id} ({spec.entity_name} {spec.entity_version}), attempt {self._state.attempt}"

    async def _prepare(self, log: int, until_it_ended: contextlib.AsyncExitStack) -> tuple[Task, Forks]:
        """What the process is to be and what forks it; all that this needs is there until the stack unwinds."""
        around, spec = self._around, self._state.spec
        with os.fdopen(around.build_logs.open(spec.id, self._heading), "w", buffering=1) as build_log:

            def say(line: str) -> None:
                build_log.write(f"{line}\n")
                # What is indented is a list, of which nobody has to see each line go by.
                if self._state.phase == protocol.STARTING and not line.startswith(" "):
                    self._update(message=line[:_LONGEST_PROGRESS])

            try:
                model = await until_it_ended.enter_async_context(around.artifacts.folder(spec.artifact_uri, say))
                environment = await around.environments.for_model(model, say, spec.artifact_uri)
                self._environment = environment.key
                server = await until_it_ended.enter_async_context(around.forks.of(environment))
            except (EnvironmentFailure, FetchError) as error:
                build_log.write(f"{error}\n")
                raise
            if not server.is_up:
                say("Importing the environment's packages.")
        task = Task(
            title=spec.title,
            model=str(model),
            variables={**around.variables, **dict(spec.environment_vars)},
            directory=str(self._directory),
            limits=around.limits,
            orphanage=around.orphanage,
            identity=identity(spec, self._name, self._state.attempt, self._directory),
            processors=until_it_ended.enter_context(around.processors.some(self._allowance.cpus)),
            nice=around.nice,
            collector=around.collector,
        )
        self._update(message="loading model")
        return task, await until_it_ended.enter_async_context(around.templates.of(task, server, log))

    async def _fork(self, task: Task, forks: Forks, listener: Listener, log: int) -> tuple[Child, socket.socket]:
        """The replica's process, and our end of its channel."""
        ours, theirs = socket.socketpair()
        memory = pulse.make()
        try:
            descriptors = [listener.socket.fileno(), log, theirs.fileno(), memory]
            child = await forks.fork("replica", task.to_json(), descriptors)
            self._pulse = pulse.at(memory)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        self._child = child
        self._began = time.monotonic()
        self._know(child.pid)
        self._update(pid=child.pid)
        if self._state.phase == protocol.STOPPING:  # it was told while the process was being made
            self._signal(signal.SIGTERM)
        return child, ours

    def _know(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process = psutil.Process(pid)
            self._born = self._process.create_time()

    async def _attend(self, child: Child, ours: socket.socket, listener: Listener) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        reports = asyncio.create_task(self._hear(reader), name=f"reports of {self._name}")
        ping = asyncio.create_task(self._ping(listener), name=f"ping of {self._name}")
        try:
            status = await child.ended
            if status is None:
                # Its fork server died, and it serves on.
                await _end_of(child.pid, reports)
            ping.cancel()
            # It has ended, so its reports have; but a process that the model left behind may hold the channel open.
            await asyncio.wait([reports], timeout=1)
        finally:
            ping.cancel()
            reports.cancel()
            writer.close()
            await asyncio.gather(ping, reports, return_exceptions=True)
        failure = reports.result() if reports.done() and not reports.cancelled() else None
        self._ended(status, failure)

    async def _hear(self, reader: asyncio.StreamReader) -> Report | None:
        """Show the process's progress; its report of a failure, if it makes one."""
        failure = None
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                report = Report.from_line(line)
                if report.failure:
                    failure = report
                elif self._state.phase == protocol.STARTING:
                    self._update(message=report.progress)
        return failure

    async def _ping(self, listener: Listener) -> None:
        """Say READY as soon as the process has answered: until it accepts, the ping waits in the socket's queue."""
        while not await _answers(listener):  # noqa: ASYNC110 - the event is an answer
            await asyncio.sleep(_PING_PAUSE)
        if self._state.phase == protocol.STARTING:
            self._update(phase=protocol.READY, message="")

    def _ended(self, status: int | None, failure: Report | None) -> None:
        if self._state.phase == protocol.ASLEEP:
            self._update(pid=None)
            return
        if failure is not None:
            self._fail(failure.failure, permanent=failure.permanent)
            return
        words = self._around.logs.last_words(self._state.spec.id, _LAST_LINES)
        self._fail(f"{self._ended_for or _how(status)}\n{words}".strip(), permanent=False)

    def _fail(self, message: str, *, permanent: bool) -> None:
        if self._state.phase == protocol.STOPPING:
            return
        _logger.warning("replica %s failed: %s", self._state.spec.title or self._state.spec.id, message)
        if permanent:
            # Nobody will take those who wait: better refused than forgotten.
            self.close()
        self._update(
            phase=protocol.FAILED,
            pid=None,
            message=message,
            permanent=permanent,
            holds_connections=self._socket.is_open,
        )

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, number)

    def _update(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._publish(self._state)


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


async def _end_of(pid: int, reports: asyncio.Task[Report | None]) -> None:
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


def _how(status: int | None) -> str:
    if status is None:
        return "ended; how is not known, for the process that started it had ended before"
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with code {os.WEXITSTATUS(status)}"
