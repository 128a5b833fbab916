"""One replica as its host keeps it: a socket that stays, and processes that come and go behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

from model_worker import protocol, replica_process
from model_worker.artifacts import FetchError
from model_worker.chore import Chore
from model_worker.environments import EnvironmentFailure
from model_worker.forks import ForkError
from model_worker.listeners import ListenerError
from model_worker.orphanage import Orphan
from model_worker.preparation import Attempt, Prepared, prepare
from model_worker.protocol import Spec, State
from model_worker.record import Left
from model_worker.replica_process import Ending, ReplicaProcess
from model_worker.replica_socket import ReplicaSocket
from model_worker.surroundings import Surroundings

_logger = logging.getLogger(__name__)

#: Lines of the log that go into the message of a replica that crashed.
_LAST_LINES = 5


class HostedReplica:
    """A replica from its first start until it is gone. `publish` hears every change of its state."""

    def __init__(self, spec: Spec, name: str, around: Surroundings, publish: Callable[[State], None]) -> None:
        """`name` is unique among all replicas there ever were, and fit for a file name."""
        self._name = name
        self._around = around
        self._directory = around.directory / name
        self._publish = publish
        self._socket = ReplicaSocket(name, around.listeners, around.keeping)
        self._preparing: asyncio.Task[Prepared] | None = None
        self._process: ReplicaProcess | None = None
        self._environment = ""
        self._killing: asyncio.TimerHandle | None = None
        self._kill_at = float("inf")
        self._looking = Chore(f"replica {spec.id} cannot be looked at")
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
        """When its process was made, as `birth` tells it; 0 while there is none."""
        return self._process.born if self._process is not None else 0.0

    # What a former host has left

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
        process = self._process = replica_process.inherited(orphan.pid, orphan.pulse, orphan.channel)
        self._update(
            phase=protocol.READY if process.serves else protocol.STARTING,
            address=listener.address,
            pid=orphan.pid,
            attempt=orphan.attempt,
            holds_connections=True,
        )

    async def attend_adopted(self) -> None:
        """See the process of an adopted replica through to its end, as `attempt` does."""
        assert self._process is not None
        process = self._process

        async def attend() -> None:
            with self._around.artifacts.held(self._state.spec.artifact_uri):
                await self._attend(process)

        await self._through(attend())

    # Its life

    def given(self, spec: Spec) -> None:
        """From now on it is to be started with this spec."""
        self._state = replace(self._state, spec=spec)

    def sleep_on(self, spec: Spec) -> None:
        """Being ASLEEP, wake by this spec; whoever has taken it for something else hears that it sleeps."""
        self.given(spec)
        self._update()

    def begin(self) -> None:
        """Say that there will be another attempt; `attempt` has to follow."""
        self._update(
            phase=protocol.STARTING, message="starting", permanent=False, pid=None, attempt=self._state.attempt + 1
        )

    async def attempt(self) -> None:
        """Start a process for it and see it through to its end: FAILED, or, if it was stopped, ready to be forgotten."""
        if self._state.phase != protocol.STOPPING:
            await self._through(self._run_process())

    def listen(self) -> None:
        """Be ASLEEP before there ever was a process; where no socket can be had, be started at once, which will say why."""
        try:
            listener = self._socket.open()
        except ListenerError:
            self.begin()
            return
        self._update(phase=protocol.ASLEEP, message="", address=listener.address, holds_connections=True)

    def sleep(self, grace: float) -> None:
        """End the process of a READY replica within `grace` seconds; its socket stays, and what comes there waits.

        Not of one that has requests in hand: those that come after would wait until these are answered.
        """
        if self._state.phase == protocol.READY and not (self._process and self._process.is_at_work):
            self._update(phase=protocol.ASLEEP, message="")
            self._end(grace)

    async def roused(self) -> None:
        """Return when somebody connects to the socket of a replica that is ASLEEP, or when it is roused or stopped."""
        await self._socket.wait()

    def rouse(self) -> None:
        """Wake a replica that is ASLEEP as soon as its former process has ended."""
        self._socket.let_go()

    def stop(self, grace: float) -> None:
        """Let it finish what it has, for at most `grace` seconds; a stop that was sooner to end stays so."""
        if self._state.phase != protocol.STOPPING:
            self._update(phase=protocol.STOPPING, message="")
            self._socket.hide()
        if self._preparing is not None:
            self._preparing.cancel()
        self._end(grace)

    def look(self, now: float, awake_since: float) -> None:
        """End its process if that uses more memory than it may, or is dead in all but name (`ReplicaProcess.look`)."""
        if self._process is None or self._state.phase not in {protocol.STARTING, protocol.READY}:
            return
        with self._looking:
            allowance = self._around.allowance(self._state.spec.workload_size)
            self._process.look(now, awake_since, allowance, self._around.patience)

    def close(self) -> None:
        """Leave no socket behind."""
        self._socket.close()

    # One process

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
            self._process = None
            if self._killing is not None:
                self._killing.cancel()
            self._kill_at = float("inf")
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _run_process(self) -> None:
        listener, spec = self._socket.open(), self._state.spec
        self._update(address=listener.address, holds_connections=True)
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        attempt = Attempt(spec, self._name, self._state.attempt, self._directory)
        async with contextlib.AsyncExitStack() as until_it_ended:
            with os.fdopen(self._around.logs.open(spec.id, attempt.heading), "wb") as log:
                preparing = prepare(attempt, self._around, log.fileno(), self._progress, until_it_ended)
                self._preparing = asyncio.create_task(preparing, name=f"prepare {self._name}")
                try:
                    prepared = await self._preparing
                except asyncio.CancelledError:
                    if self._state.phase == protocol.STOPPING:
                        return
                    raise
                finally:
                    self._preparing = None
                self._environment = prepared.environment
                process = await replica_process.fork(prepared.task, prepared.forks, listener, log.fileno())
            self._process = process
            self._update(pid=process.pid)
            if self._state.phase == protocol.STOPPING:  # it was told while the process was being made
                process.signal(signal.SIGTERM)
            await self._attend(process)

    async def _attend(self, process: ReplicaProcess) -> None:
        self._ended(await process.attend(self._socket.open(), self._progress, self._ready))

    def _progress(self, line: str) -> None:
        if self._state.phase == protocol.STARTING:
            self._update(message=line)

    def _ready(self) -> None:
        if self._state.phase == protocol.STARTING:
            self._update(phase=protocol.READY, message="")

    def _ended(self, ending: Ending) -> None:
        if self._state.phase == protocol.ASLEEP:
            self._update(pid=None)
        elif ending.failure is not None:
            self._fail(ending.failure.failure, permanent=ending.failure.permanent)
        else:
            words = self._around.logs.last_words(self._state.spec.id, _LAST_LINES)
            self._fail(f"{ending.how}\n{words}".strip(), permanent=False)

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

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)

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

    def _update(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._publish(self._state)
