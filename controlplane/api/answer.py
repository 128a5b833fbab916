"""Answers: JSON, whatever happens."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from flask import Response


def answer(body: Mapping[str, object], status: int = 200) -> Response:
    """An answer with `body` as JSON."""
    return Response(orjson.dumps(body), status=status, mimetype="application/json")
