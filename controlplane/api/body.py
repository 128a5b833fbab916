"""The JSON object that a request carries."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import UnsupportedMediaType

from controlplane.schema import JsonObject, read_object


def json_body(request: Request) -> JsonObject:
    """The request's body; raises ProblemError when it is no JSON object, UnsupportedMediaType when it says so itself."""
    if not (request.is_json or _from_curl(request)):
        raise UnsupportedMediaType
    return read_object(request.get_data(cache=False))


def optional_json_body(request: Request) -> JsonObject:
    """As `json_body`, for calls that need none: no body is an empty object."""
    return json_body(request) if request.get_data() else {}


def _from_curl(request: Request) -> bool:
    """Whether the type is missing, or what `curl -d` sends unasked.

    Browsers name an origin, and send this type across origins without asking: from them it is refused, lest any page
    that is open on the user's machine could make endpoints.
    """
    return request.mimetype in {"", "application/x-www-form-urlencoded"} and "Origin" not in request.headers
