"""The service over HTTP, as an ASGI application. It knows paths, methods and headers, and nothing of models."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from model_worker.service import Reply, Service, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"


class Disconnected(Exception):  # noqa: N818 - an event more than an error
    """The client went away before its request was complete."""


def application(service: Service, *, max_body: int) -> Application:
    """The ASGI application of one replica, whose model is loaded."""
    alive = Reply(200, b"\n")

    async def invocations(scope: Scope, receive: Receive) -> Reply:
        body = await _body(scope, receive, max_body)
        if body is None:
            return problem(413, "BAD_REQUEST", f"the request body is larger than {max_body} bytes")
        content_type = _header(scope, b"content-type")
        return await service.invoke(body, content_type)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/invocations":
            if method != "POST":
                return await _send_not_allowed(send, "POST")
            try:
                reply = await invocations(scope, receive)
            except Disconnected:
                return None
            return await _send(send, reply, closing=reply.status == 413)
        if path in {"/ping", "/health", "/version"}:
            if method not in {"GET", "HEAD"}:
                return await _send_not_allowed(send, "GET")
            if path == "/version":
                return await _send(send, Reply(200, service.version.encode()), content_type=_TEXT)
            return await _send(send, alive)
        return await _send(send, problem(404, "NOT_FOUND", f"there is nothing at {path}"))

    return app


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """The whole request body, or None when it is over the limit."""
    declared = _header(scope, b"content-length")
    if declared is not None and re.fullmatch(r"[0-9]+", declared) and int(declared) > limit:
        return None
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body if len(body) <= limit else None
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


async def _send_not_allowed(send: Send, allowed: str) -> None:
    reply = problem(405, "BAD_REQUEST", f"only {allowed} is answered here")
    await _send(send, reply, extra=((b"allow", allowed.encode()),))


async def _send(
    send: Send,
    reply: Reply,
    *,
    content_type: bytes = _JSON,
    extra: tuple[tuple[bytes, bytes], ...] = (),
    closing: bool = False,
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(reply.body)).encode()), *extra]
    if closing:  # the rest of the body is not worth reading
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
