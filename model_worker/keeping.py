"""The host's side of `keeper.py`: what a former host has left there, and what a successor of this one will find."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from collections import deque
from pathlib import Path

from model_worker import keeper

_logger = logging.getLogger(__name__)

#: Seconds that a keeper may take to say what it has: milliseconds, but what it does not say is lost to those who wait for it.
_SAYS = 20.0

#: Seconds that it may take to end.
_PATIENCE = 5.0

#: Seconds before a keeper that died gets a successor.
_PAUSE = 1.0


class Keeping:
    """Has a keeper hold the listening sockets of replicas; starts one when there is none, and tells it all again."""

    def __init__(self, path: Path, grace: float, directory: Path) -> None:
        """`path`: where the keeper listens; `grace`: seconds that it waits for this host's successor; `directory`: its own."""
        self._path = path
        self._grace = grace
        self._directory = directory
        self._connection: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._sockets: dict[str, socket.socket] = {}
        #: Names whose sockets the keeper has yet to be given, or to let go.
        self._untold: deque[str] = deque()
        self._changed = asyncio.Event()

    async def take(self) -> dict[str, socket.socket]:
        """The sockets that a former host has left, by the names of their replicas; to be called before anything else."""
        found: dict[str, socket.socket] = {}
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_SAYS):
                await asyncio.get_running_loop().sock_connect(connection, str(self._path))
                await _receive_kept(connection, found)
        except (OSError, TimeoutError, ValueError, LookupError) as error:
            if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                _logger.warning("sockets that a former host may have left are lost: %r", error)
            connection.close()
        else:
            self._connection = connection
        return found

    def keep(self, name: str, listener: socket.socket) -> None:
        """Have it held from now on."""
        self._sockets[name] = listener
        self._tell(name)

    def drop(self, name: str) -> None:
        """It is held no longer; whoever has another of that name left by a former host forgets it as well."""
        self._sockets.pop(name, None)
        self._tell(name)

    def _tell(self, name: str) -> None:
        self._untold.append(name)
        self._changed.set()

    async def run(self) -> None:
        """See to it that there is a keeper, until cancelled; then end it."""
        try:
            while True:
                try:
                    connection = self._connection = self._connection or await self._start()
                    await self._serve(connection)
                    _logger.warning("the keeper of sockets has ended")
                except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be had to wait for its end
                    _logger.warning("sockets would not outlive this host: %s", error)
                self._close()
                await asyncio.sleep(_PAUSE)
        finally:
            await self._end()

    async def _start(self) -> socket.socket:
        """A connection to a new keeper, which is to be told everything."""
        self._path.unlink(missing_ok=True)
        connection = socket.socket(socket.AF_UNIX)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._path))
            os.chmod(self._path, 0o600)
            listener.listen(1)
            # Neither the environment nor the packages of this process: it is to be small, and to know nothing.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", keeper.__file__, str(listener.fileno()), str(self._grace)),
                str(self._path),  # for whoever looks at the list of processes
                pass_fds=[listener.fileno()],
                env={},
                cwd=self._directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, str(self._path))
        self._untold = deque(self._sockets)
        self._changed.set()
        return connection

    async def _serve(self, connection: socket.socket) -> None:
        """Tell it what changes, until it ends."""
        telling = asyncio.create_task(self._tell_changes(connection), name="tell the keeper")
        hearing = asyncio.create_task(_until_closed(connection), name="hear the keeper")
        try:
            await asyncio.wait([telling, hearing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, hearing):
                task.cancel()
            await asyncio.gather(telling, hearing, return_exceptions=True)

    async def _tell_changes(self, connection: socket.socket) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._untold:
                name = self._untold.popleft()
                listener = self._sockets.get(name)
                told = {"drop": name} if listener is None else {"keep": name}
                line = json.dumps(told).encode() + b"\n"
                descriptors = [] if listener is None else [listener.fileno()]
                try:
                    socket.send_fds(connection, [line], descriptors)
                except BlockingIOError:
                    self._untold.appendleft(name)
                    await _writable(connection)

    async def _end(self) -> None:
        """Nothing is to be kept: the host ends as it should."""
        if self._connection is not None:
            with contextlib.suppress(OSError, TimeoutError):
                self._connection.send(b'{"end": true}\n')
                async with asyncio.timeout(_PATIENCE):
                    await _until_closed(self._connection)
            self._close()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def _receive_kept(connection: socket.socket, found: dict[str, socket.socket]) -> None:
    received, descriptors = b"", deque[int]()
    while True:
        await _readable(connection)
        data, sent, _, _ = socket.recv_fds(connection, 1 << 16, 64)
        if not data:
            raise ConnectionResetError("the keeper has hung up")
        descriptors.extend(sent)
        *lines, received = (received + data).split(b"\n")
        for line in lines:
            name = json.loads(line)["kept"]
            if name is None:
                return
            found[name] = socket.socket(fileno=descriptors.popleft())  # IndexError: this process may have no more open


async def _until_closed(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(connection, 1 << 12):
            pass


async def _readable(connection: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


async def _writable(connection: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(connection)
