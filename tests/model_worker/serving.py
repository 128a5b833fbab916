"""A service in this process: asked directly, or over HTTP on a Unix socket of its own."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from model_worker.admission import Queue
from model_worker.codec import Payload
from model_worker.http import Bounds, Server
from model_worker.service import Service


class EchoModel:
    """Answers what it is given; streams what it is given piece by piece."""

    version = "1.2.3"
    streams = True
    signature = None

    def predict(self, payload: Payload) -> Any:
        """The input."""
        return payload.value

    def predict_stream(self, payload: Payload) -> Iterator[Any]:
        """The input's items."""
        yield from payload.value


class _Incoming(io.BufferedReader):
    """What has come and is not read yet; each response is done with it when it has read its own part."""

    def close(self) -> None:
        """Stay open for the next response."""

    def makefile(self, mode: str) -> _Incoming:
        """As `HTTPResponse` asks a socket for it."""
        return self


class Client:
    """A raw connection, which may misbehave."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self._incoming = _Incoming(socket.SocketIO(self.socket, "r"))

    def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.socket.sendall(data)

    def post(self, body: bytes, headers: str = "", path: str = "/invocations") -> None:
        """Send a request."""
        self.send(f"POST {path} HTTP/1.1\r\nhost: r\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body)

    def answer(self) -> http.client.HTTPResponse:
        """The next response's head; its body is read by `read`."""
        response = http.client.HTTPResponse(self._incoming, method="POST")  # type: ignore[arg-type]
        response.begin()
        return response

    def json(self) -> Any:
        """The next response's body."""
        return json.loads(self.answer().read())

    def rest(self) -> bytes:
        """Everything until the server closes."""
        return self._incoming.read()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


class Running:
    """A server with its own event loop in a thread."""

    def __init__(self, model: Any, *, queue: Queue = Queue(), **bounds: float) -> None:  # noqa: B008 - a frozen value
        self._model = model
        self._queue = queue
        self._bounds = Bounds(**({"max_body": 1 << 20} | bounds))  # type: ignore[arg-type]
        self._directory = Path(tempfile.mkdtemp(prefix="wye-", dir="/tmp"))
        self._clients: list[Client] = []
        self.path = str(self._directory / "s")
        self.pool = ThreadPoolExecutor(4)

    def __enter__(self) -> Self:
        listening = threading.Event()
        self._thread = threading.Thread(target=uvloop.run, args=[self._serve(listening)])
        self._thread.start()
        assert listening.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self.stop()
        self._thread.join()
        self.pool.shutdown()
        shutil.rmtree(self._directory)

    async def _serve(self, listening: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.service = Service(self._model, self.pool, queue=self._queue)
        self.server = Server(self.service, self._bounds)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        await self.server.start(listener, 100)
        listening.set()
        await self._end.wait()
        await self.server.finish()
        listener.close()

    def stop(self) -> None:
        """Let it finish."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)

    def do(self, work: Callable[[], Any]) -> Any:
        """What `work` returns in the server's loop."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def client(self) -> Client:
        """A new connection."""
        client = Client(self.path)
        self._clients.append(client)
        return client

    def ask(
        self, body: bytes = b"", path: str = "/invocations", method: str = "POST", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own: the response and its body."""
        client = self.client()
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        client.send(
            f"{method} {path} HTTP/1.1\r\nhost: r\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body
        )
        response = http.client.HTTPResponse(client.socket, method=method)
        response.begin()
        return response, response.read()
