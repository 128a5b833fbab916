"""Every error as the clients read it: JSON with `error_code`, `message` and the request's id. The only place for it.

The codes are those that both the Databricks SDK and MLflow's client map to the right exception, and a message never
holds a phrase that makes the SDK try again by itself (serving-api.md, sections 2.2 to 2.4).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from controlplane.api import request_id
from controlplane.api.answer import answer
from controlplane.domain import Problem, ProblemCode, ProblemError
from controlplane.store import StaleWriteError, StoreUnavailableError

_log = logging.getLogger(__name__)

#: Seconds after which a client may try again what could not be done now; SDKs obey it.
RETRY_AFTER = 1
#: What a client gets to read when its request reached no code of ours, or ended it.
_MESSAGES = {
    400: "The request is not valid HTTP.",
    404: "There is no such path: {path}.",
    405: "{method} is not possible on {path}.",
    413: "The body is larger than the {limit} bytes that are allowed.",
    415: "Send the body as application/json (curl: -H 'Content-Type: application/json').",
}
_CODES = {404: ProblemCode.RESOURCE_DOES_NOT_EXIST}


def install(app: Flask) -> None:
    """Answer every exception that leaves a view of `app`."""
    app.register_error_handler(ProblemError, _problems)
    app.register_error_handler(StoreUnavailableError, _store_unavailable)
    app.register_error_handler(StaleWriteError, _stale_write)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _bug)


def error(code: ProblemCode, message: str, *, status: int | None = None, problems: Iterable[Problem] = ()) -> Response:
    """An error answer; `problems` with a path are listed one by one as well."""
    details: list[dict[str, object]] = [
        {
            "@type": "type.googleapis.com/google.rpc.RequestInfo",
            "request_id": request_id.current(),
            "serving_data": "",
        }
    ]
    violations = [{"field": problem.path, "description": problem.message} for problem in problems if problem.path]
    if violations:
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "field_violations": violations})
    response = answer({"error_code": code.code, "message": message, "details": details}, status or code.status)
    if response.status_code in {429, 503}:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _problems(refusal: ProblemError) -> Response:
    return error(refusal.code, str(refusal), problems=refusal.problems)


def _store_unavailable(failure: StoreUnavailableError) -> Response:
    _log.warning("request %s: %s", request_id.current(), failure)
    return error(ProblemCode.TEMPORARILY_UNAVAILABLE, str(failure))


def _stale_write(failure: StaleWriteError) -> Response:
    message = f"Endpoint {failure.name} was changed or deleted by somebody else at the same time; look, then try again."
    return error(ProblemCode.RESOURCE_CONFLICT, message)


def _http(failure: HTTPException) -> Response:
    status = failure.code or 500
    if status >= 500:
        return _bug(failure)
    template = _MESSAGES.get(status, failure.description or "The request was refused.")
    message = template.format(method=request.method, path=request.path, limit=request.max_content_length)
    response = error(_CODES.get(status, ProblemCode.BAD_REQUEST), message, status=status)
    if isinstance(failure, MethodNotAllowed) and failure.valid_methods is not None:
        response.headers["Allow"] = ", ".join(sorted(failure.valid_methods))
    return response


def _bug(failure: Exception) -> Response:
    _log.error("request %s: %s %s", request_id.current(), request.method, request.path, exc_info=failure)
    message = f"The control plane failed to handle this request; its log says why, under {request_id.current()}."
    return error(ProblemCode.INTERNAL_ERROR, message)
