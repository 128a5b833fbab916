"""The service over HTTP/1.1. It knows paths, methods, headers and clients that misbehave, and nothing of models.

A server of its own, on httptools' parser: one callback and one write a request, where ASGI takes a task, two messages and
several awaits (docs/worker.md has the figures). Requests of one connection are answered one after the other, in order.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic, time
from typing import Any

import httptools

from model_worker import codec
from model_worker.batch import Item
from model_worker.codec import OutputError
from model_worker.service import Reply, Service, Ticket, problem
from model_worker.traces import Parent, Traces, parent
from model_worker.usage import Usage

#: Bytes of a request's line and headers.
_MAX_HEAD = 64 * 1024

#: Requests of one connection that are read while one is answered; then the connection has to wait.
_MAX_AHEAD = 16

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: ".encode() for status in HTTPStatus}
#: How much of a request has come: nothing, a part of its head, a part of its body.
_IDLE, _HEAD, _BODY = range(3)

_CLOSE = b"connection: close\r\n"
_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may ask for, and how long it may take."""

    #: Bytes of a body.
    max_body: int
    #: Seconds without a request after which a connection is closed; above Envoy's own, so that Envoy closes first.
    keep_alive: float = 75.0
    #: Seconds within which a request's headers must have come.
    head: float = 20.0
    #: Seconds that a body may pause …
    pause: float = 30.0
    #: … and that a request may take in all to arrive.
    arrival: float = 300.0
    #: Seconds that a refused client may take to read why.
    farewell: float = 2.0


@dataclass(slots=True)
class _Request:
    method: bytes = b""
    url: bytes = b""
    content_type: str | None = None
    accept: str | None = None
    length: int | None = None
    continues: bool = False
    keep_alive: bool = True
    body: list[bytes] = field(default_factory=list)
    size: int = 0
    parent: Parent | None = None


class Server:
    """Accepts on one listening socket; `start` returns when it listens, `finish` when all is answered."""

    def __init__(self, service: Service, bounds: Bounds, traces: Traces | None = None) -> None:
        self.service = service
        self.traces = traces
        self.bounds = bounds
        self.usage = Usage(began=time())
        self.connections: set[Connection] = set()
        #: Streams under way; a task that nobody holds may be collected.
        self.streams: set[asyncio.Task[None]] = set()
        self.finishing = False
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self, listener: socket.socket, backlog: int) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=listener, backlog=backlog)
        self._sweep = loop.call_later(1.0, self._look_at_clocks)

    async def finish(self) -> None:
        """Accept no more, answer what has come or is coming, close every connection."""
        self.finishing = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.finish()
        if self.connections:
            self._empty.clear()
            await self._empty.wait()
        if self._sweep is not None:
            self._sweep.cancel()

    def gone(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _look_at_clocks(self) -> None:
        now = monotonic()
        for connection in list(self.connections):
            if now > connection.deadline:
                connection.late()
        self._sweep = asyncio.get_running_loop().call_later(1.0, self._look_at_clocks)


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        *("_began", "_bounds", "_busy", "_closing", "_head", "_item", "_parser", "_reading", "_request"),
        *("_server", "_service", "_state", "_traces", "_transport", "_waiting", "_writable", "deadline"),
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._service = server.service
        self._traces = server.traces
        self._bounds = server.bounds
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        #: The request that is arriving, the one that is being answered, and those behind it.
        self._request = _Request()
        self._busy: _Request | None = None
        self._waiting: deque[_Request] = deque()
        self._item: Item | Ticket | None = None
        self._state = _IDLE
        self._head = 0
        self._began = 0.0
        self._reading = True
        self._closing = False
        self._writable: asyncio.Event | None = None
        self.deadline = monotonic() + server.bounds.keep_alive

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)
        if self._server.finishing:
            # It came through the queue: its request is on the way, or it will be told to go.
            self.deadline = monotonic() + 1.0

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason changes nothing
        """The client is gone; nobody needs its answers."""
        self._closing = True
        self._transport = None
        self._waiting.clear()
        if self._item is not None:
            self._item.abandoned = True
        self._resumed()
        self._server.gone(self)

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is answered, unless it is gone altogether."""
        if (self._busy is None and not self._waiting) or _is_gone(self._transport):
            return False
        (self._waiting[-1] if self._waiting else self._busy).keep_alive = False  # type: ignore[union-attr]
        return True

    def pause_writing(self) -> None:
        """The client reads slower than it is answered."""
        self._writable = self._writable or asyncio.Event()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._resumed()
        self._next()

    def _resumed(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last()  # an upgrade is ignored, as the protocol allows, but what follows is not ours to read
        except httptools.HttpParserError as error:
            if not self._closing:
                self._refuse(problem(400, "BAD_REQUEST", f"this is not HTTP/1.1: {error}"))
            return
        if self._state != _HEAD or self._closing:
            return
        self._head += len(data)
        if self._head > _MAX_HEAD:
            self._refuse(problem(431, "BAD_REQUEST", f"the request's headers are larger than {_MAX_HEAD} bytes"))

    # What the parser says

    def on_message_begin(self) -> None:
        """A request begins."""
        self._request = _Request()
        self._state = _HEAD
        self._head = 0
        now = monotonic()
        self._began = now
        if self._busy is None:
            self.deadline = now + self._bounds.head

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._request.url += url

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """A header."""
        # By length first: of a proxy's ten headers nine are none of these.
        length = len(name)
        if length == 12:
            if name.lower() == b"content-type":
                self._request.content_type = (value or b"").decode("latin-1")
        elif length == 14:
            if name.lower() == b"content-length" and value is not None and value.isdigit():
                self._request.length = int(value)
        elif length == 11:
            if self._traces is not None and value is not None and name.lower() == b"traceparent":
                self._request.parent = parent(value)
        elif length == 6:
            lower = name.lower()
            if lower == b"accept":
                self._request.accept = (value or b"").decode("latin-1")
            elif lower == b"expect":
                self._request.continues = (value or b"").lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """The headers are there."""
        request = self._request
        request.method = self._parser.get_method()
        request.keep_alive = self._parser.should_keep_alive()
        self._state = _BODY
        if request.length is not None and request.length > self._bounds.max_body:
            self._too_large()
        elif request.continues and self._busy is None and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        request = self._request
        request.size += len(body)
        if request.size > self._bounds.max_body:
            if not self._closing:
                self._too_large()
            return
        request.body.append(body)
        if self._busy is None and request.length != request.size:
            now = monotonic()
            self.deadline = min(now + self._bounds.pause, self._began + self._bounds.arrival)

    def on_message_complete(self) -> None:
        """The request is there."""
        self._state = _IDLE
        if self._closing:
            return
        if self._busy is None and self._writable is None and not self._waiting:
            self._answer(self._request)
        else:
            self._waiting.append(self._request)
            if len(self._waiting) >= _MAX_AHEAD and self._reading and self._transport is not None:
                self._reading = False
                self._transport.pause_reading()

    # Answers

    def _answer(self, request: _Request) -> None:
        self._busy = request
        self.deadline = float("inf")
        url = request.url
        if url == b"/invocations" and request.method == b"POST":
            parts = request.body
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._item = self._service.invoke(body, request.content_type, request.accept, self._answered)
        else:
            self._elsewhere(request, url.partition(b"?")[0].decode("latin-1"))

    def _elsewhere(self, request: _Request, path: str) -> None:
        if path == "/invocations":
            if request.method == b"POST":  # with a query, which means nothing
                request.url = b"/invocations"
                self._answer(request)
            else:
                self._answered(problem(405, "BAD_REQUEST", "only POST is answered here"), b"allow: POST\r\n")
        elif path not in {"/ping", "/health", "/version", "/metrics"}:
            self._answered(problem(404, "NOT_FOUND", f"there is nothing at {path}"))
        elif request.method not in {b"GET", b"HEAD"}:
            self._answered(problem(405, "BAD_REQUEST", "only GET is answered here"), b"allow: GET\r\n")
        elif path == "/version":
            self._answered(Reply(200, self._service.version.encode(), _TEXT))
        elif path == "/metrics":
            text = self._service.metrics.text() + self._server.usage.text()
            self._answered(Reply(200, text.encode(), _METRICS))
        else:
            self._answered(Reply(200, b"\n"))

    def _answered(self, reply: Reply, extra: bytes = b"") -> None:
        self._item = None
        transport, request = self._transport, self._busy
        if transport is None or request is None:
            if reply.pieces is not None:
                self._service.stream_executor.submit(_close, reply.pieces)
            return
        if reply.pieces is not None:
            task = asyncio.get_running_loop().create_task(self._stream(reply.pieces, request), name="stream")
            self._server.streams.add(task)
            task.add_done_callback(self._server.streams.discard)
            return
        if request.parent is not None and self._traces is not None:
            self._traces.answered(request.parent, reply.status, reply.times)
        closing = not request.keep_alive or self._server.finishing
        body = reply.body
        head = f"{reply.content_type}\r\ncontent-length: {len(body)}\r\n"
        if reply.times is not None:
            head += (
                "server-timing: parse;dur=%.3f, queue;dur=%.3f, predict;dur=%.3f, serialize;dur=%.3f\r\n" % reply.times  # noqa: UP031 - half the time of an f-string
            )
        if reply.retry_after:
            head += f"retry-after: {reply.retry_after}\r\n"
        transport.write(
            b"".join(
                (
                    _STATUS[reply.status],
                    head.encode("latin-1"),
                    extra,
                    _CLOSE if closing else b"",
                    b"\r\n",
                    b"" if request.method == b"HEAD" else body,
                )
            )
        )
        self._done(closing)

    def _done(self, closing: bool) -> None:
        """The answer is written."""
        self._busy = None
        if closing:
            self._last()
        else:
            self.deadline = monotonic() + self._bounds.keep_alive
            if self._waiting:  # later, for there may be many
                asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Answer the next request, if there is one and it may be."""
        if self._waiting and self._busy is None and self._writable is None and not self._closing:
            self._answer(self._waiting.popleft())
        if not self._reading and len(self._waiting) < _MAX_AHEAD and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    async def _stream(self, pieces: Iterator[Any], request: _Request) -> None:
        """Server-sent events, chunk by chunk, no faster than the client reads."""
        loop = asyncio.get_running_loop()
        executor = self._service.stream_executor
        self._write(
            _STATUS[200] + b"text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        try:
            while self._transport is not None:
                event = await loop.run_in_executor(executor, _event, pieces)
                if event is None:
                    self._chunk(b"data: [DONE]\n\n")
                    break
                self._chunk(event)
                if self._writable is not None:
                    await self._writable.wait()
        except Exception as error:  # noqa: BLE001 - the model's; the head is written, so it is told as an event
            self._chunk(b"data: " + problem(400, "BAD_REQUEST", str(error)).body + b"\n\n")
            request.keep_alive = False
        finally:
            await loop.run_in_executor(executor, _close, pieces)
        self._write(b"0\r\n\r\n")
        if request.parent is not None and self._traces is not None:
            self._traces.answered(request.parent, 200, None)
        self._done(closing=not request.keep_alive or self._server.finishing)

    def _chunk(self, data: bytes) -> None:
        self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    # Ends

    def finish(self) -> None:
        """Close as soon as nothing is under way."""
        if self._busy is None and not self._waiting and self._state == _IDLE:
            if self._began:
                self._last()
            else:
                # Whoever has just connected is about to ask; what it asks is answered, and is the last.
                self.deadline = min(self.deadline, monotonic() + self._bounds.farewell)

    def late(self) -> None:
        """The deadline has passed."""
        if self._closing:
            if self._transport is not None:
                self._transport.abort()
        elif self._state != _IDLE:
            self._refuse(problem(408, "BAD_REQUEST", "the request did not arrive in time"))
        else:
            self._last()

    def _too_large(self) -> None:
        words = f"the request body is larger than {self._bounds.max_body} bytes"
        self._refuse(problem(413, "BAD_REQUEST", words))

    def _refuse(self, reply: Reply) -> None:
        """Answer without having read all; then the client is listened to no more."""
        self._closing = True
        self.deadline = monotonic() + self._bounds.farewell
        if self._busy is not None or self._transport is None:
            # Its earlier requests come first, and no later one can be told from the rest of this.
            if self._busy is not None:
                self._busy.keep_alive = False
                self.deadline = float("inf")
            self._waiting.clear()
            return
        self._transport.write(
            b"".join(
                (
                    _STATUS[reply.status],
                    f"{reply.content_type}\r\ncontent-length: {len(reply.body)}\r\n".encode(),
                    _CLOSE,
                    b"\r\n",
                    reply.body,
                )
            )
        )
        # Not closed while it still sends: the reset would destroy the answer before it is read.
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _last(self) -> None:
        """Close once all that is written has left."""
        if self._busy is not None:
            self._busy.keep_alive = False
        elif self._transport is not None:
            self._closing = True
            self._transport.close()


def _is_gone(transport: asyncio.Transport | None) -> bool:
    """Whether the other end is closed in both directions, as Envoy does with a request that nobody waits for any more.

    Unix sockets tell; over TCP it looks as if the client only had nothing more to say.
    """
    if transport is None:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _event(pieces: Iterator[Any]) -> bytes | None:
    piece = next(pieces, _END)
    if piece is _END:
        return None
    try:
        return b"data: " + codec.encode(piece, wrapped=False) + b"\n\n"
    except OutputError as error:
        raise ValueError(str(error)) from error


def _close(pieces: Iterator[Any]) -> None:
    close = getattr(pieces, "close", None)
    if callable(close):
        close()


_END = object()
