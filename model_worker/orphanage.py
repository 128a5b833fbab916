"""How the living replicas of a killed host come in to the one that follows."""

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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_worker import orphan, protocol
from model_worker.chore import Chore
from model_worker.protocol import Spec
from model_worker.record import Left

_logger = logging.getLogger(__name__)

#: Seconds that living replicas of the former host may take to come in; one that does not is taken for dead.
PATIENCE = 5.0
#: Seconds between two looks whether those that are awaited live still.
_LOOK = 0.1

#: A replica with all its variables.
_LONGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Orphan:
    """A living replica that has come in, with all that it holds: whoever takes it over has its sockets from then on."""

    spec: Spec
    name: str
    attempt: int
    directory: Path
    pid: int
    listener: socket.socket
    #: Closed when it has been taken over or refused; what it refers to can be mapped until then.
    pulse: int
    channel: socket.socket


def identity(spec: Spec, name: str, attempt: int, directory: Path) -> str:
    """What a replica knows of itself, for the host that may come after this one."""
    document = {"spec": spec.to_json(), "name": name, "attempt": attempt, "directory": str(directory)}
    return json.dumps(document)


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
        # Counted, not timed: while this host could not run, nobody could come in.
        looks = round(PATIENCE / _LOOK)
        while looks and any(name not in self._names and each.lives for name, each in awaited.items()):
            self._came.clear()
            try:
                async with asyncio.timeout(_LOOK):  # it may end instead of coming
                    await self._came.wait()
            except TimeoutError:
                looks -= 1
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
        loop, accepting = asyncio.get_running_loop(), Chore("living replicas of the former host cannot come in")
        while True:
            with accepting:
                connection, _ = await loop.sock_accept(listener)
                self._begin(self._hear(connection))
                continue
            await asyncio.sleep(_LOOK)  # there is no descriptor left, most likely; whoever comes waits

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
            os.close(found.pulse)
            if taken:
                self._names.add(found.name)
                self._came.set()
            else:
                found.listener.close()
                found.channel.close()
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
