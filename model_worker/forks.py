"""The host's side of a fork server: starts it, asks it for processes, hears how they end, starts it again if it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import model_worker
from model_worker.environments import Environment
from model_worker.pulse import Patience

_logger = logging.getLogger(__name__)

#: What a forked process becomes: the `run` of this module.
Role = Literal["replica", "fetch", "template"]

#: Makes this package importable in an interpreter that does not have it installed, and nothing beside it.
_BOOTSTRAP = """
import importlib.util, sys
sys.path[:] = [entry for entry in sys.path if entry]
spec = importlib.util.spec_from_file_location("model_worker", {init!r}, submodule_search_locations=[{directory!r}])
package = importlib.util.module_from_spec(spec)
sys.modules["model_worker"] = package
spec.loader.exec_module(package)
from model_worker.forkserver import main
main()
"""

#: So many questions in a row may a process that forks leave unanswered, asked within the time that it may be silent.
_MISSES = 3

#: Seconds before a fork server that died is started again, doubling from the first to the second.
_PAUSES = (0.1, 10.0)


class ForkError(Exception):
    """A process could not be made; another attempt may succeed."""


@dataclass(frozen=True, slots=True)
class Child:
    """A forked process."""

    pid: int
    #: Resolves to its status as from `os.waitpid`, or to None when its fork server died and nobody can know.
    ended: asyncio.Future[int | None]


class Forks:
    """A process that forks others when it is asked to, as `forkserver.py` has it; how it comes to be is its subclasses'."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._socket: socket.socket | None = None
        self._up = asyncio.Event()
        self._turn = asyncio.Lock()
        self._answers: deque[asyncio.Future[Child]] = deque()
        self._children: dict[int, asyncio.Future[int | None]] = {}
        self._last_failure = ""
        #: How many messages have come.
        self._heard_of = 0

    @property
    def is_up(self) -> bool:
        """True when it can fork at once."""
        return self._up.is_set()

    @property
    def last_failure(self) -> str:
        """Why it last ended, or could not be had."""
        return self._last_failure

    async def came_up(self) -> bool:
        """Wait until it can fork, or until it is clear that it cannot."""
        await self._up.wait()
        return self._socket is not None

    async def fork(self, role: Role, task: str, descriptors: list[int]) -> Child:
        """A new process that becomes what `role` says; waits until processes can be forked.

        Raises ForkError when it cannot be made, or what forks ended while it was waited for.
        """
        async with self._turn:
            await self._up.wait()
            if self._socket is None:
                raise ForkError(self._last_failure)
            answer: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
            self._answers.append(answer)
            told = {"fork": task, "as": role, "descriptors": len(descriptors)}
            line = json.dumps(told).encode() + b"\n"
            with contextlib.suppress(OSError):  # it has just ended; the answer will say how
                sent = socket.send_fds(self._socket, [line], descriptors)
                await asyncio.get_running_loop().sock_sendall(self._socket, line[sent:])
            # Shielded, so that a caller who gives up does not shift the answers of others.
            return await asyncio.shield(answer)

    async def _hear(self, pid: int, ours: socket.socket) -> None:
        """Do what the process says until it hangs up; end it when it says nothing any more."""
        loop = asyncio.get_running_loop()
        watching = asyncio.create_task(self._watch(pid, ours), name=f"watch process {pid}")
        received = b""
        try:
            while data := await _receive(loop, ours):
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    self._heard(json.loads(line), ours)
        finally:
            watching.cancel()

    async def _watch(self, pid: int, ours: socket.socket) -> None:
        """End it when it takes too long before it can fork, or answers nothing any more."""
        words = f"has not finished its imports in {self._patience.loading:.0f} s"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience.loading):
                await self._up.wait()
            await self._fall_silent(ours)
            words = f"has not answered for {self._patience.silent:.0f} s"
        _logger.error("process %d, which forks others, %s: it is ended", pid, words)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    async def _fall_silent(self, ours: socket.socket) -> None:
        """Return when it has left too many questions unanswered.

        Counted, not timed: while this host could not run, there was nobody to hear an answer.
        """
        misses = 0
        while misses < _MISSES:
            heard_of = self._heard_of
            if not self._turn.locked():  # else it owes an answer already
                with contextlib.suppress(OSError):  # it has ended, or reads nothing
                    ours.send(b'{"ping": true}\n')
            await asyncio.sleep(self._patience.silent / _MISSES)
            misses = 0 if self._heard_of > heard_of else misses + 1

    def _heard(self, message: dict[str, Any], ours: socket.socket) -> None:
        self._heard_of += 1
        if "ready" in message:
            self._socket = ours
            self._last_failure = ""
            self._up.set()
        elif "forked" in message:
            child = Child(int(message["forked"]), asyncio.get_running_loop().create_future())
            self._children[child.pid] = child.ended
            self._answer().set_result(child)
        elif "refused" in message:
            self._answer().set_exception(ForkError(message["refused"]))
        elif "exited" in message:
            ended = self._children.pop(int(message["exited"]))
            if not ended.done():
                ended.set_result(int(message["status"]))

    def _answer(self) -> asyncio.Future[Child]:
        return self._answers.popleft()

    def abandon(self) -> None:
        """Tell everyone who waits that the process is gone."""
        self._socket = None
        # Those who wait for it to come up are told why it does not.
        self._up.set()
        self._up = asyncio.Event()
        while self._answers:
            self._answer().set_exception(ForkError(self._last_failure))
        for ended in self._children.values():
            if not ended.done():
                ended.set_result(None)
        self._children.clear()


class ForkServer(Forks):
    """One environment's fork server; `run` keeps it alive, `fork` uses it."""

    def __init__(
        self, environment: Environment, variables: Mapping[str, str], patience: Patience, *, log: Path, directory: Path
    ) -> None:
        super().__init__(patience)
        self._environment = environment
        self._variables = dict(variables)
        self._log = log
        self._directory = directory
        self._pid: int | None = None

    @property
    def key(self) -> str:
        """Its environment's."""
        return self._environment.key

    @property
    def pid(self) -> int | None:
        """The fork server's process, or None while there is none."""
        return self._pid

    async def run(self) -> None:
        """Keep a fork server running until cancelled, then end it. The children are left to whoever asked for them."""
        pause = _PAUSES[0]
        while True:
            try:
                was_ready = await self._run_once()
            except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be had that would wait for its end
                was_ready, self._last_failure = False, f"the fork server cannot be started: {error}"
            self.abandon()
            pause = _PAUSES[0] if was_ready else min(2 * pause, _PAUSES[1])
            _logger.error("environment %s: %s", self._environment.key, self._last_failure)
            await asyncio.sleep(pause)

    async def _run_once(self) -> bool:
        """Start it, serve it until it ends; whether it ever got ready."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await self._start(theirs)
            self._pid = process.pid
            ours.setblocking(False)
            try:
                await self._hear(process.pid, ours)
                # The socket is closed: it has ended, or will not do anything more.
                await _end(process)
            finally:
                ours.close()
                self._pid = None
                if process.returncode is None:
                    if not self._up.is_set():  # while it imports it hears nothing, and it has forked nobody
                        process.kill()
                    await _end(process)
        was_ready = self._up.is_set()
        self._last_failure = f"the fork server {_how(process.returncode)}: {self._last_line()}".removesuffix(": ")
        return was_ready

    async def _start(self, control: socket.socket) -> asyncio.subprocess.Process:
        package = Path(model_worker.__file__).parent
        code = _BOOTSTRAP.format(init=str(package / "__init__.py"), directory=str(package))
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                self._environment.python,
                "-c",
                code,
                "--control",
                str(control.fileno()),
                pass_fds=[control.fileno()],
                env=self._variables,
                cwd=self._directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _last_line(self) -> str:
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").split("\n")
            return next((text for text in reversed(lines) if text.strip()), "")
        return ""


class Template(Forks):
    """A process that was forked to load a model, and forks the replicas that share it."""

    def abandon(self) -> None:
        """Tell everyone who waits that the process is gone, and whoever asks from now on: there will be no other."""
        super().abandon()
        self._up.set()

    async def run(self, forks: Forks, task: str, log: int) -> None:
        """Have it made by `forks`, and serve it until it ends or this is cancelled.

        Raises ForkError when it cannot be made.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        child = None
        try:
            with theirs:
                child = await forks.fork("template", task, [theirs.fileno(), log])
            await self._hear(child.pid, ours)
        finally:
            ours.close()
            # It ends when its socket is closed, but not while it loads.
            if child is not None and not child.ended.done():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
            self._last_failure = "the process that holds the model has ended"


async def _receive(loop: asyncio.AbstractEventLoop, ours: socket.socket) -> bytes:
    try:
        return await loop.sock_recv(ours, 1 << 16)
    except ConnectionResetError:
        return b""


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for it to end by itself for a moment, then make it."""
    try:
        async with asyncio.timeout(2):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _how(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was killed by {signal_name(-returncode)}"
    return f"exited with code {returncode}"


def signal_name(number: int) -> str:
    """What a signal is called, or its number: most real-time signals have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
