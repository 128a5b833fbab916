"""One client: its requests one after the other, in order, and within their bounds."""

from __future__ import annotations

import asyncio
import select
from collections import deque
from dataclasses import dataclass, field
from time import monotonic

import httptools

from model_worker.batch import Item
from model_worker.http import events, paths, replies
from model_worker.http.bounds import Bounds
from model_worker.service import Reply, Service, Ticket, problem
from model_worker.traces import Parent, Traces, parent
from model_worker.usage import Usage

#: Bytes of a request's line and headers.
_MAX_HEAD = 64 * 1024

#: Requests of one connection that are read while one is answered; then the connection has to wait.
_MAX_AHEAD = 16

#: How much of a request has come: nothing, a part of its head, a part of its body.
_IDLE, _HEAD, _BODY = range(3)


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


@dataclass(slots=True, eq=False)
class Shared:
    """What the connections of a server have in common."""

    service: Service
    bounds: Bounds
    traces: Traces | None
    usage: Usage
    connections: set[Connection] = field(default_factory=set)
    #: Streams under way; a task that nobody holds may be collected.
    streams: set[asyncio.Task[None]] = field(default_factory=set)
    #: The server is about to end: each connection's next answer is its last.
    finishing: bool = False
    #: Set when the last connection has gone.
    none_left: asyncio.Event = field(default_factory=asyncio.Event)


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        *("_began", "_bounds", "_busy", "_closing", "_head", "_item", "_parser", "_reading", "_request"),
        *("_service", "_shared", "_state", "_traces", "_transport", "_waiting", "_writable", "deadline"),
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._service = shared.service
        self._traces = shared.traces
        self._bounds = shared.bounds
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
        self.deadline = monotonic() + shared.bounds.keep_alive

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = transport  # type: ignore[assignment]
        self._shared.connections.add(self)
        if self._shared.finishing:
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
        self._shared.connections.discard(self)
        if not self._shared.connections:
            self._shared.none_left.set()

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
        if path == "/invocations" and request.method == b"POST":  # with a query, which means nothing
            request.url = b"/invocations"
            self._answer(request)
        else:
            self._answered(paths.reply(request.method, path, self._service, self._shared.usage))

    def _answered(self, reply: Reply) -> None:
        self._item = None
        transport, request = self._transport, self._busy
        if transport is None or request is None:
            if reply.pieces is not None:
                self._service.stream_executor.submit(events.close, reply.pieces)
            return
        if reply.pieces is not None:
            task = asyncio.get_running_loop().create_task(self._stream(reply, request), name="stream")
            self._shared.streams.add(task)
            task.add_done_callback(self._shared.streams.discard)
            return
        closing = not request.keep_alive or self._shared.finishing
        transport.write(replies.message(reply, closing=closing, with_body=request.method != b"HEAD"))
        if request.parent is not None and self._traces is not None:
            self._traces.answered(request.parent, reply.status, reply.times)
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

    async def _stream(self, reply: Reply, request: _Request) -> None:
        assert reply.pieces is not None
        well = False
        try:
            well = await events.send(reply.pieces, self, self._service.stream_executor)
        finally:
            if request.parent is not None and self._traces is not None:
                self._traces.answered(request.parent, reply.status, reply.times)
            self._done(closing=not well or not request.keep_alive or self._shared.finishing)

    @property
    def is_there(self) -> bool:
        """Whether the client still listens."""
        return self._transport is not None

    def write(self, data: bytes) -> None:
        """Send bytes, to nobody when the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Return when the client has read enough to be sent more."""
        if self._writable is not None:
            await self._writable.wait()

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
        self._transport.write(replies.message(reply, closing=True))
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
