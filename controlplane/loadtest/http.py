"""One keep-alive connection that sends prepared requests, one at a time, and reads the answers' essentials.

On httptools' parser and asyncio's bare protocol: 12 µs of processor for a request, of which the system has 9 (wrk takes 11).
"""

from __future__ import annotations

import asyncio
from typing import Protocol
from urllib.parse import urlsplit

import httptools

#: Bytes of a refusal that are kept: its words are in the first ones.
_KEPT = 4096


class Owner(Protocol):
    """Who is told what becomes of a connection."""

    def answered(self, connection: Connection) -> None:
        """An answer is complete; its parts are the connection's attributes until the next `send`."""

    def lost(self, connection: Connection, reason: str) -> None:
        """The connection is gone, with the request that was under way unless it is idle."""


class Connection(asyncio.Protocol):
    """A connection; `send` when `idle`."""

    __slots__ = (
        "_done",
        "_lives",
        "_owner",
        "_parser",
        "_transport",
        "body",
        "closing",
        "due",
        "idle",
        "model",
        "target",
        "timing",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._done = False
        self._lives = True
        self.idle = True
        #: True once no other request can be sent; `lost` does not tell of it again.
        self.closing = False
        #: What is under way: the target's number, and when the request was due.
        self.target = 0
        self.due = 0
        #: Of the answer: the model named in it, its `server-timing`, and the beginning of a body that is no prediction.
        self.model = b""
        self.timing = b""
        self.body = b""

    @property
    def status(self) -> int:
        """The answer's HTTP status."""
        return int(self._parser.get_status_code())

    def send(self, request: bytes, target: int, due: int) -> None:
        """Send a request."""
        assert self._transport is not None
        self.idle = False
        self.target, self.due = target, due
        self.model = self.timing = self.body = b""
        self._transport.write(request)

    def abort(self) -> None:
        """Give up what is under way, and the connection with it."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"the answer is not HTTP/1.1: {error}")
            return
        if self._done:
            self._done = False
            self.idle = True
            if not self._lives:
                self.abort()
            self._owner.answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        words = getattr(exc, "strerror", None) or (str(exc) if exc else "")
        self._end(words or "the connection was closed without an answer")

    def _end(self, reason: str) -> None:
        if not self.closing:
            self.abort()
            self._owner.lost(self, reason)

    # What the parser says

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """A header; by length first, for most are none of these."""
        length = len(name)
        if length == 17:
            if name.lower() == b"served-model-name":
                self.model = value or b""
        elif length == 13 and name.lower() == b"server-timing":
            self.timing = value or b""

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if len(self.body) < _KEPT and self.status >= 300:
            self.body += body[:_KEPT]

    def on_message_complete(self) -> None:
        """The answer is there."""
        self._done = True
        self._lives = self._parser.should_keep_alive()  # the parser knows it only now


def prepare(url: str, path: str, body: bytes, content_type: str, token: str) -> bytes:
    """A POST of `body` as bytes that can be sent many times; `url` is Wye's, `path` begins with a slash."""
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path.rstrip('/')}{path} HTTP/1.1",
        f"host: {parts.netloc.rpartition('@')[2]}",
        "user-agent: wye-load",
        "accept: application/json",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *([f"authorization: Bearer {token}"] if token else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
