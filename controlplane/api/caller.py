"""Who is calling. Envoy has verified it; this only reads what Envoy says."""

from __future__ import annotations

from flask import Request

#: Set by Envoy, which removes it from what clients send.
HEADER = "x-wye-user"
#: Who calls when nobody has to say who they are.
ADMIN = "admin"


def caller(request: Request) -> str:
    """The calling user's name, which becomes `creator` of what they make."""
    return request.headers.get(HEADER) or ADMIN
