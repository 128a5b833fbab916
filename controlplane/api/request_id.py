"""The request's id: Envoy's where Envoy stands in front, and on every answer either way."""

from __future__ import annotations

from uuid import uuid4

from flask import Flask, Response, g, request

HEADER = "x-request-id"


def install(app: Flask) -> None:
    """Give every request of `app` an id and every answer the header."""
    app.before_request(_take)
    app.after_request(_give)


def current() -> str:
    """The id of the request in hand."""
    if "request_id" not in g:
        g.request_id = request.headers.get(HEADER) or str(uuid4())
    return str(g.request_id)


def _take() -> None:
    current()


def _give(response: Response) -> Response:
    response.headers[HEADER] = current()
    return response
