"""The API on a socket: waitress, whose loop runs on a thread of its own and the requests on a few others."""

from __future__ import annotations

import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from controlplane.api.app import LARGEST_BODY
from controlplane.domain import Address

#: A WSGI application.
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: How long the requests in hand may take to end when the server closes.
CLOSE_SECONDS = 10.0
#: Connections at a time, and files that are left for everything else: the database, Envoys, the worker host, threads.
MOST_CONNECTIONS, OTHER_FILES = 1000, 200
#: Longer than Envoy keeps an idle connection, so that it is never Envoy that finds it closed.
IDLE_SECONDS = 3600


class Server:
    """An API that listens on `address` (a port asked for as 0 is the one it got) until it is closed."""

    def __init__(self, app: Application, address: Address, threads: int) -> None:
        listener, self.address = _bound(address)
        self._connections: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._connections,
            sockets=[listener],
            threads=threads,
            ident="wye",
            channel_timeout=IDLE_SECONDS,
            connection_limit=most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            # Flask refuses bodies over its limit in better words; this one only keeps the disk from filling.
            max_request_body_size=4 * LARGEST_BODY,
        )
        self._server.channel_class = _Channel
        self._closing = threading.Event()
        #: The loop has been woken to close, and may now close what it is woken by.
        self._told = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wye-api", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and return once the requests in hand are answered, or CLOSE_SECONDS have passed."""
        self._closing.set()
        self._server.pull_trigger()
        self._told.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            wasyncore.loop(timeout=30.0, use_poll=True, map=self._connections, count=1)
        wasyncore.dispatcher.close(self._server)
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._busy() and time.monotonic() < deadline:
            wasyncore.loop(timeout=0.1, use_poll=True, map=self._connections, count=1)
        self._server.task_dispatcher.shutdown(timeout=1)
        self._told.wait()
        wasyncore.close_all(self._connections)

    def _busy(self) -> bool:
        """Whether a connection has a request that is not answered to the last byte; idle ones are closed."""
        for channel in list(self._server.active_channels.values()):
            if not channel.requests and not channel.total_outbufs_len:
                channel.handle_close()
        return bool(self._server.active_channels)


def serve(app: Application, address: Address, threads: int = 8) -> Server:
    """Serve `app` on `address`; it listens when this returns. Raises OSError when it cannot."""
    # It warns whenever a request has to wait for a thread, which is what the queue is for.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    return Server(app, address, threads)


def most_connections(files: int) -> int:
    """How many a process takes that may have so many files open: past that waitress would accept in vain, at full speed."""
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MOST_CONNECTIONS, files - OTHER_FILES))


def _bound(address: Address) -> tuple[socket.socket, Address]:
    """A socket that is bound and does not listen yet, and the address it got. A Unix socket is for its owner only."""
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if address.path:
            Path(address.path).unlink(missing_ok=True)  # left by a process that was killed
            listener.bind(address.path)
            Path(address.path).chmod(0o600)
            return listener, address
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        return listener, Address(host=address.host, port=listener.getsockname()[1])
    except OSError:
        listener.close()
        raise


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """What waitress answers by itself (broken HTTP, far too large a body), as JSON like everything else."""

    def execute(self) -> None:
        fault = self.request.error
        code = "INTERNAL_ERROR" if fault.code >= 500 else "BAD_REQUEST"
        body = orjson.dumps({"error_code": code, "message": f"{fault.reason}: {fault.body}"})
        self.status = f"{fault.code} {fault.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    error_task_class = _JsonErrorTask
