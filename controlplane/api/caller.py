"""Who is calling. Envoy has verified it; this only reads what Envoy says."""

from __future__ import annotations

from flask import Flask, Request, g, request

from controlplane.domain import (
    ADMINS,
    GROUPS_HEADER,
    USER_HEADER,
    Caller,
    Endpoint,
    Permission,
    Problem,
    ProblemCode,
    ProblemError,
    groups_in,
    permission_of,
)

#: Who calls when nobody has to say who they are.
ADMIN = "admin"


def install(app: Flask, *, tokens: bool) -> None:
    """Find out who is calling before anything else is done; without `tokens` everybody is an admin."""

    @app.before_request
    def _identify() -> None:
        identify(tokens=tokens)


def identify(*, tokens: bool) -> None:
    """Find out who made the request in hand; raises ProblemError (UNAUTHENTICATED) when Envoy does not say."""
    g.caller = _named(request) if tokens else Caller(request.headers.get(USER_HEADER) or ADMIN, (ADMINS,))


def current() -> Caller:
    """Who made the request in hand."""
    known: Caller = g.caller
    return known


def caller(_request: Request) -> str:
    """The calling user's name, which becomes `creator` of what they make."""
    return current().user


def permission(endpoint: Endpoint) -> Permission | None:
    """What the caller may do with the endpoint; None: not even see it."""
    return permission_of(current(), endpoint.creator, endpoint.grants)


def _named(asked: Request) -> Caller:
    user = _text(asked.headers.get(USER_HEADER, ""))
    if not user:
        message = "A valid token is needed, sent as the header 'Authorization: Bearer <token>'."
        raise ProblemError(Problem("", ProblemCode.UNAUTHENTICATED, message))
    return Caller(user, groups_in(asked.headers.get(GROUPS_HEADER, "")))


def _text(header: str) -> str:
    """A header's text: WSGI reads bytes as Latin-1, Envoy writes UTF-8."""
    return header.encode("latin-1", "replace").decode(errors="replace")
