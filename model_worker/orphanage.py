"""What a killed host has left behind, for the one that follows: which replicas there were, and how those that live come in."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import socket
import struct
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from model_worker import orphan, protocol
from model_worker.protocol import Spec, State

_logger = logging.getLogger(__name__)

#: Seconds that living replicas of the former host may take to come in; one that does not is taken for dead.
PATIENCE = 5.0

#: A replica with all its variables.
_LONGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Left:
    """A replica of the former host, as it was last written down."""

    #: Without the model's variables, which may be secrets, and are in no file.
    spec: Spec
    #: What its socket is called, and where it is.
    name: str
    address: dict[str, Any]
    attempt: int
    #: None: it had no process.
    pid: int | None
    #: `birth` of that process.
    born: float

    @property
    def lives(self) -> bool:
        """Whether its process is there still."""
        if self.pid is None:
            return False
        try:
            process = psutil.Process(self.pid)
            return abs(birth(process) - self.born) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True, slots=True)
class Orphan:
    """A living replica that has come in, with all that it holds."""

    spec: Spec
    name: str
    attempt: int
    directory: Path
    pid: int
    listener: socket.socket
    pulse: int
    channel: socket.socket


def birth(process: psutil.Process) -> float:
    """When a process was made, in seconds since the machine was started: unlike the time of day, that never changes."""
    booted = psutil.boot_time()  # first: some releases of psutil keep it, and add what they kept
    return process.create_time() - booted


def identity(spec: Spec, name: str, attempt: int, directory: Path) -> str:
    """What a replica knows of itself, for the host that may come after this one."""
    document = {"spec": spec.to_json(), "name": name, "attempt": attempt, "directory": str(directory)}
    return json.dumps(document)


class Record:
    """A directory with a file for each replica there is, written before anything else hears of a change.

    One that were written late, or for all of them at once, would say of a replica that has just become ready that it had
    no process; its host's successor would start another in its place.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._complete = True

    def read(self) -> list[Left]:
        """What the former host wrote; nothing if there was none, or if it ended as it should."""
        return [left for path in sorted(self._directory.glob("*.json")) if (left := _read(path)) is not None]

    def write(self, name: str, state: State, born: float) -> None:
        """What a successor has to know of a replica: its state, and when its process was made; nothing if it is to be gone.

        The file is whole, or as it was before: as it stays when the disk is full.
        """
        if state.address is None or state.phase == protocol.STOPPING or state.permanent:
            self.remove(name)
            return
        document = {
            "spec": {**state.spec.to_json(), "environment_vars": {}},
            "name": name,
            "address": state.address,
            "attempt": state.attempt,
            "pid": state.pid if state.phase in {protocol.STARTING, protocol.READY} else None,
            "born": born,
        }
        path = self._path(name)
        beside = path.with_suffix(".new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.write_text(json.dumps(document))
            beside.replace(path)
        except OSError as error:
            if self._complete:
                _logger.warning("a successor of this host would not know its replicas: %s", error)
            self._complete = False
        else:
            self._complete = True

    def remove(self, name: str) -> None:
        """A successor has nothing to know of it."""
        with contextlib.suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    def remove_others(self, names: Container[str]) -> None:
        """Nor of any replica but these."""
        for path in self._directory.glob("*"):
            if path.stem not in names:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"


def _read(path: Path) -> Left | None:
    try:
        return _left(json.loads(path.read_text()))
    except (OSError, ValueError, LookupError, TypeError) as error:
        _logger.warning("what the former host has left in %s is not known: %r", path, error)
        return None


def _left(fields: dict[str, Any]) -> Left:
    return Left(
        spec=protocol.spec(fields["spec"]),
        name=str(fields["name"]),
        address=dict(fields["address"]),
        attempt=int(fields["attempt"]),
        pid=fields["pid"],
        born=float(fields["born"]),
    )


def address(socket_dir: Path, log_dir: Path, name: str = "orphans") -> Path:
    """Where the orphans of a host with these directories look for its successor, or what else has that `name` meets it."""
    digest = hashlib.blake2b(os.fsencode(log_dir.absolute()), digest_size=4).hexdigest()
    return socket_dir.absolute() / f"{digest}-{name}.sock"


class Orphanage:
    """Listens for replicas that have lost their host. `adopt` takes one over, or returns False when it is not wanted."""

    def __init__(self, path: Path, adopt: Callable[[Orphan], bool]) -> None:
        self._path = path
        self._adopt = adopt
        self._listener: socket.socket | None = None
        self._came = asyncio.Event()
        self._names: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, left: Iterable[Left]) -> list[Left]:
        """Take in whoever of those that are `left` lives; the others, whose sockets nobody has any more.

        Goes on taking in whoever comes later, until `close`.
        """
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._path))
        os.chmod(self._path, 0o600)
        self._listener.listen(1024)
        self._listener.setblocking(False)
        self._begin(self._serve(self._listener))
        awaited = {each.name: each for each in left if each.lives}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while any(name not in self._names and each.lives for name, each in awaited.items()):
                    self._came.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.1):  # it may end instead of coming
                            await self._came.wait()
        for name, each in awaited.items():
            if name not in self._names and each.pid is not None and each.lives:
                _logger.warning("replica %s does not look for its new host: it is ended", each.spec.id)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
        return [each for each in left if each.name not in self._names]

    def has_taken(self, name: str) -> bool:
        """Whether the replica with this name has come in."""
        return name in self._names

    async def close(self) -> None:
        """Take in nobody any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._path.unlink(missing_ok=True)
            self._listener.close()

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work, name="orphans")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._begin(self._hear(connection))

    async def _hear(self, connection: socket.socket) -> None:
        received: list[int] = []
        with connection:
            try:
                async with asyncio.timeout(PATIENCE):
                    line = await _line(connection, received)
                found = _orphan(line, received, _peer(connection))
            except (OSError, ValueError, LookupError, TypeError, TimeoutError) as error:
                _logger.warning("something that is no replica of ours wants a host: %r", error)
                for descriptor in received:
                    os.close(descriptor)
                return
            taken = self._adopt(found)
            if taken:
                self._names.add(found.name)
                self._came.set()
            else:
                for descriptor in received:
                    os.close(descriptor)
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(connection, orphan.ADOPTED if taken else orphan.REFUSED)


async def _line(connection: socket.socket, descriptors: list[int]) -> bytes:
    """The one line that an orphan says, and the descriptors that it sends along."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    readable = asyncio.Event()
    loop.add_reader(connection.fileno(), readable.set)
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < _LONGEST:
            await readable.wait()
            readable.clear()
            try:
                data, sent, _, _ = socket.recv_fds(connection, 1 << 16, 8)
            except BlockingIOError:
                continue
            descriptors.extend(sent)
            if not data:
                raise ValueError("it hung up")
            line += data
    finally:
        loop.remove_reader(connection.fileno())
    return line


def _orphan(line: bytes, descriptors: list[int], pid: int) -> Orphan:
    said = json.loads(line)
    if said["version"] != orphan.VERSION:
        raise ValueError(f"it is of another release (version {said['version']})")
    known = json.loads(said["identity"])
    listener, heart, channel = descriptors
    return Orphan(
        spec=protocol.spec(known["spec"]),
        name=str(known["name"]),
        attempt=int(known["attempt"]),
        directory=Path(known["directory"]),
        pid=pid,
        listener=socket.socket(fileno=listener),
        pulse=heart,
        channel=socket.socket(fileno=channel),
    )


def _peer(connection: socket.socket) -> int:
    """The process at the other end, by the kernel's word.

    Raises ValueError when it is not this user's.
    """
    pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.getuid():
        raise ValueError(f"it belongs to user {user}")
    return int(pid)
