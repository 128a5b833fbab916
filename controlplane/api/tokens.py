"""One's own tokens: made, listed, revoked. A token is in the answer that makes it and nowhere else."""

from __future__ import annotations

from flask import Blueprint, Response, request

from controlplane.api.access import refusal
from controlplane.api.answer import answer
from controlplane.api.body import json_body
from controlplane.api.caller import current
from controlplane.api.deps import Auth, Deps
from controlplane.domain import Problem, ProblemCode, ProblemError, Token
from controlplane.schema import TokenRequest, parse_token, parse_token_id


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("tokens", __name__, url_prefix="/api/2.0/token")

    @calls.post("/create")
    def create() -> Response:
        return made(deps, parse_token(json_body(request)))

    @calls.get("/list")
    def list_mine() -> Response:
        return answer({"token_infos": [_full_info(token) for token in _auth(deps).tokens.all(current().user)]})

    @calls.post("/delete")
    def delete() -> Response:
        token = known(deps, parse_token_id(json_body(request)))
        if not current().is_admin and token.user != current().user:
            raise _unknown(token.id)
        return revoked(deps, token)

    return calls


def management(deps: Deps) -> Blueprint:
    """The same for everybody's tokens; the caller is an admin."""
    calls = Blueprint("token_management", __name__, url_prefix="/api/2.0/token-management")

    @calls.get("/tokens")
    def list_all() -> Response:
        found = _auth(deps).tokens.all(request.args.get("created_by_username"))
        return answer({"token_infos": [_full_info(token) for token in found]})

    @calls.get("/tokens/<token_id>")
    def get(token_id: str) -> Response:
        return answer({"token_info": _full_info(known(deps, token_id))})

    @calls.delete("/tokens/<token_id>")
    def delete(token_id: str) -> Response:
        return revoked(deps, known(deps, token_id))

    @calls.post("/on-behalf-of/tokens")
    def create() -> Response:
        return made(deps, parse_token(json_body(request)))

    return calls


def made(deps: Deps, asked: TokenRequest) -> Response:
    """A new token; for others, and for groups that the caller is not in, only admins may ask."""
    me = current()
    user, groups = asked.user or me.user, asked.groups
    if groups is None:
        groups = me.groups if user == me.user else ()
    if not me.is_admin and (user != me.user or not set(groups) <= set(me.groups)):
        raise refusal("Only members of the group admins may make tokens for others, or for groups they are not in.")
    auth, now_ms = _auth(deps), deps.clock.now_ms()
    text, token = auth.signer.sign(
        user,
        groups,
        comment=asked.comment,
        creator=me.user,
        now_ms=now_ms,
        expires_ms=None if asked.lifetime_seconds is None else now_ms + 1000 * asked.lifetime_seconds,
    )
    auth.tokens.add(token)
    return answer({"token_value": text, "token_info": _full_info(token)})


def revoked(deps: Deps, token: Token) -> Response:
    """Revokes a token, and says so when every Envoy refuses it."""
    auth = _auth(deps)
    if token.id == auth.admin.id:
        message = (
            "This is the token that `wye up` itself uses. To replace it, delete keys/admin-token in the state directory "
            "and start Wye again; then revoke this one."
        )
        raise ProblemError(Problem("", ProblemCode.BAD_REQUEST, message))
    auth.tokens.revoke(token.id, deps.clock.now_ms())
    waiting = auth.announce()
    if waiting:
        message = f"The token is revoked, but not every Envoy knows it yet ({waiting}); send this again to know."
        raise ProblemError(Problem("", ProblemCode.TEMPORARILY_UNAVAILABLE, message))
    return answer({})


def known(deps: Deps, token_id: str) -> Token:
    """The token of that id; raises ProblemError (RESOURCE_DOES_NOT_EXIST)."""
    token = _auth(deps).tokens.get(token_id)
    if token is None:
        raise _unknown(token_id)
    return token


def _auth(deps: Deps) -> Auth:
    if deps.auth is None:
        message = "Wye runs without tokens (--no-auth): every call is made as the admin, and there are none to make."
        raise ProblemError(Problem("", ProblemCode.BAD_REQUEST, message))
    return deps.auth


def _unknown(token_id: str) -> ProblemError:
    message = f"There is no token with the id {token_id[:80]}."
    return ProblemError(Problem("", ProblemCode.RESOURCE_DOES_NOT_EXIST, message))


def _info(token: Token) -> dict[str, object]:
    return {
        "token_id": token.id,
        "creation_time": token.created_ms,
        "expiry_time": -1 if token.expires_ms is None else token.expires_ms,
        "comment": token.comment,
    }


def _full_info(token: Token) -> dict[str, object]:
    return {
        **_info(token),
        "created_by_username": token.creator,
        "user_name": token.user,
        "groups": list(token.groups),
    }
