"""The API as the page calls it: in process, with the caller's own headers, so that it answers just as it would to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from flask import Flask, request
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from controlplane.api.request_id import HEADER as REQUEST_ID
from controlplane.domain import GROUPS_HEADER, USER_HEADER

Json = dict[str, Any]
ENDPOINTS = "/api/2.0/serving-endpoints"
#: What an answer depends on besides method, path and body.
_PASSED_ON = (USER_HEADER, GROUPS_HEADER, REQUEST_ID, "Host", "X-Forwarded-Proto")


@dataclass(frozen=True, slots=True)
class ApiError(Exception):
    """The API's refusal, in its own words."""

    status: int
    code: str
    message: str
    #: (field, what is wrong with it)
    violations: tuple[tuple[str, str], ...] = ()


class Api:
    """Calls of the API in the name of whoever made the request in hand."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def get(self, path: str, **query: str) -> Json:
        """GET; raises ApiError when it is refused."""
        return self.call("GET", path, None, **query)

    def call(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        """What the API answers; raises ApiError when it refuses."""
        headers = [(name, request.headers[name]) for name in _PASSED_ON if name in request.headers]
        builder = EnvironBuilder(path=path, method=method, json=body, query_string=query, headers=headers)
        try:
            answer = Response.from_app(self._app, builder.get_environ(), buffered=True)
        finally:
            builder.close()
        found: Json = orjson.loads(answer.get_data() or b"{}")
        if answer.status_code >= 400:
            raise _refusal(answer.status_code, found)
        return found


def endpoint_path(name: str, *rest: str) -> str:
    """The API's path of an endpoint, or of something of it."""
    return "/".join([ENDPOINTS, quote(name, safe=""), *(quote(part, safe=":") for part in rest)])


def _refusal(status: int, body: Json) -> ApiError:
    violations = tuple(
        (str(each.get("field", "")), str(each.get("description", "")))
        for detail in body.get("details", ())
        for each in detail.get("field_violations", ())
    )
    return ApiError(status, str(body.get("error_code", "")), str(body.get("message", "")), violations)
