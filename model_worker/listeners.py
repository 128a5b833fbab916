"""The listening sockets of replicas: made and kept by the host, lent to one replica process after another.

While no process accepts, connections wait in the kernel's queue instead of being refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

#: How many connections may wait; the kernel lowers it to net.core.somaxconn (4096 on a usual Linux).
BACKLOG = 4096

#: The kernel's room for a Unix socket's path, less the closing zero (Linux; macOS has 103).
MAX_PATH = 107

#: What replicas' sockets are called, as far as it tells them from others in the same directory.
_NAME = re.compile(r"[0-9a-f]{8}-[0-9]+")


class ListenerError(Exception):
    """A listening socket cannot be made; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and the address that clients use for it."""

    socket: socket.socket
    address: Mapping[str, Any]
    path: Path | None = None

    def close(self) -> None:
        """Refuse new connections, drop those that wait, and leave no file behind."""
        # The file first: a connection that comes between the two is reset, which a client may retry, not lost later.
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.socket.close()

    def hide(self) -> None:
        """Let no new client find it (Unix sockets only), while those that wait stay."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Listeners(Protocol):
    """Makes listening sockets; each name gets an address that no other name ever gets."""

    def open(self, name: str) -> Listener:
        """A socket that listens.

        Raises ListenerError.
        """

    def again(self, address: Mapping[str, Any]) -> Listener:
        """A socket that listens where one did that is gone.

        Raises ListenerError.
        """

    def inherited(self, listener: socket.socket) -> Listener:
        """A socket that listens, made by another process.

        Raises ListenerError when that had other settings.
        """

    def sweep(self, ours: Collection[str]) -> None:
        """Remove what former hosts have left, except for the sockets with these names."""


class UnixListeners:
    """Sockets in a directory of their own."""

    def __init__(self, directory: Path, longest_name: int) -> None:
        """Raises ListenerError when a path in `directory` could get too long for a Unix socket."""
        self._directory = directory.absolute()
        length = len(os.fsencode(self._directory)) + 1 + longest_name + len(".sock")
        if length > MAX_PATH:
            raise ListenerError(
                f"the socket directory {self._directory} is too long: sockets in it would have paths of {length} bytes, "
                f"and a Unix socket's path may have {MAX_PATH}; choose a shorter one, such as /tmp/wye"
            )

    def open(self, name: str) -> Listener:
        """A Unix socket at `<directory>/<name>.sock`, for this user only."""
        return self._at(self._directory / f"{name}.sock")

    def again(self, address: Mapping[str, Any]) -> Listener:
        """A socket at the path that another had."""
        if "path" not in address:
            raise ListenerError("it listened on a port, and now replicas listen on Unix sockets")
        return self._at(Path(address["path"]))

    def inherited(self, listener: socket.socket) -> Listener:
        """The socket with the path that it has."""
        if listener.family != socket.AF_UNIX:
            raise ListenerError("it listens on a port, and now replicas listen on Unix sockets")
        path = Path(listener.getsockname())
        return Listener(listener, {"path": str(path)}, path)

    def _at(self, path: Path) -> Listener:
        try:
            listener = _unix(path)
        except OSError as error:
            raise ListenerError(f"cannot listen at {path}: {error.strerror}") from error
        return Listener(listener, {"path": str(path)}, path)

    def sweep(self, ours: Collection[str]) -> None:
        """Remove the files of sockets that nobody listens at, as a killed host leaves them; others' files stay."""
        for path in self._directory.glob("*.sock"):
            # Ours are not even tried: that would wake a replica that sleeps.
            if _NAME.fullmatch(path.stem) and path.stem not in ours and not answers(path):
                path.unlink(missing_ok=True)


class TcpListeners:
    """Ports that the kernel chooses, for replicas whose clients are in other containers."""

    def __init__(self, host: str, advertised: str = "") -> None:
        self._host = host
        self._advertised = advertised or (_own_address() if host in {"", "0.0.0.0", "::"} else host)  # noqa: S104

    def open(self, name: str) -> Listener:  # noqa: ARG002 - a port needs no name
        """A TCP socket on a free port."""
        return self._on(0)

    def again(self, address: Mapping[str, Any]) -> Listener:
        """A TCP socket on the port that another had."""
        if "port" not in address:
            raise ListenerError("it listened on a Unix socket, and now replicas listen on ports")
        return self._on(int(address["port"]))

    def inherited(self, listener: socket.socket) -> Listener:
        """The socket with the port that it has."""
        if listener.family == socket.AF_UNIX:
            raise ListenerError("it listens on a Unix socket, and now replicas listen on ports")
        return Listener(listener, {"host": self._advertised, "port": listener.getsockname()[1]})

    def sweep(self, ours: Collection[str]) -> None:
        """Nothing is left of a port."""

    def _on(self, port: int) -> Listener:
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            listener = socket.create_server((self._host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise ListenerError(f"cannot listen on {self._host}: {error}") from error
        return Listener(listener, {"host": self._advertised, "port": listener.getsockname()[1]})


def answers(path: Path) -> bool:
    """Whether somebody listens at this Unix socket."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
    return True


def _unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _own_address() -> str:
    """The address under which other containers reach this one."""
    return socket.gethostbyname(socket.gethostname())
