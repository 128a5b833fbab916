"""Replies as the bytes that are sent. Pure."""

from __future__ import annotations

from http import HTTPStatus

from model_worker.service import Reply

#: The head of an answer in pieces, which end with NO_MORE.
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
NO_MORE = b"0\r\n\r\n"

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
_HEAD = b"%b\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
_TIMES = b"server-timing: parse;dur=%.3f, queue;dur=%.3f, predict;dur=%.3f, serialize;dur=%.3f\r\n"
_CLOSE = b"connection: close\r\n"


def message(reply: Reply, *, closing: bool, with_body: bool = True) -> bytes:
    """A reply that is not in pieces; `closing`: it is the last one, and says so."""
    body = reply.body
    head = _HEAD % (_STATUS[reply.status], reply.content_type.encode("latin-1"), len(body))
    if reply.times is not None:
        head += _TIMES % reply.times
    if reply.retry_after:
        head += b"retry-after: %d\r\n" % reply.retry_after
    if reply.allow:
        head += b"allow: %b\r\n" % reply.allow.encode()
    if closing:
        head += _CLOSE
    return head + b"\r\n" + body if with_body else head + b"\r\n"


def chunk(data: bytes) -> bytes:
    """A piece of an answer in pieces."""
    return b"%x\r\n%b\r\n" % (len(data), data)
