"""Secrets for the environments of models. They are put, listed and deleted; no call shows a value."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, request

from controlplane.api.access import refusal
from controlplane.api.answer import answer
from controlplane.api.body import json_body
from controlplane.api.caller import current
from controlplane.api.deps import Deps
from controlplane.domain import (
    Endpoint,
    EntitySpec,
    Problem,
    ProblemCode,
    ProblemError,
    SecretPermission,
    secret_reference,
)
from controlplane.schema import parse_acl, parse_names, parse_secret
from controlplane.store import Secrets

READ, WRITE, MANAGE = SecretPermission.READ, SecretPermission.WRITE, SecretPermission.MANAGE


def blueprint(deps: Deps) -> Blueprint:
    """The calls of this file."""
    calls = Blueprint("secrets", __name__, url_prefix="/api/2.0/secrets")

    @calls.post("/scopes/create")
    def make_scope() -> Response:
        (scope,) = parse_names(json_body(request), "scope")
        if not _store(deps).make_scope(scope, current().user):
            message = f"There is a scope {scope} already."
            raise ProblemError(Problem("scope", ProblemCode.RESOURCE_ALREADY_EXISTS, message))
        return answer({})

    @calls.get("/scopes/list")
    def scopes() -> Response:
        store = _store(deps)
        mine = [scope for scope in store.scopes() if store.permission(scope, current())]
        return answer({"scopes": [{"name": scope, "backend_type": "DATABRICKS"} for scope in mine]})

    @calls.post("/scopes/delete")
    def delete_scope() -> Response:
        (scope,) = parse_names(json_body(request), "scope")
        _opened(deps, scope, MANAGE).delete_scope(scope)
        return answer({})

    @calls.post("/put")
    def put() -> Response:
        secret = parse_secret(json_body(request))
        _opened(deps, secret.scope, WRITE).put(secret.scope, secret.key, secret.value, deps.clock.now_ms())
        deps.secret_changed(secret.scope, secret.key)
        return answer({})

    @calls.get("/list")
    def keys() -> Response:
        (scope,) = parse_names(request.args.to_dict(), "scope")
        found = _opened(deps, scope, READ).keys(scope)
        return answer({"secrets": [{"key": each.key, "last_updated_timestamp": each.updated_ms} for each in found]})

    @calls.get("/get")
    def get() -> Response:
        message = "Wye hands secrets to models and shows them to nobody; refer to them as {{secrets/scope/key}}."
        raise ProblemError(Problem("", ProblemCode.NOT_IMPLEMENTED, message))

    @calls.post("/delete")
    def delete() -> Response:
        scope, key = parse_names(json_body(request), "scope", "key")
        if not _opened(deps, scope, WRITE).delete(scope, key):
            raise _missing(f"There is no secret {key} in the scope {scope}.")
        return answer({})

    return calls


def access_lists(deps: Deps) -> Blueprint:
    """Who may do what with a scope."""
    calls = Blueprint("secret_acls", __name__, url_prefix="/api/2.0/secrets/acls")

    @calls.post("/put")
    def put() -> Response:
        scope, acl = parse_acl(json_body(request))
        _opened(deps, scope, MANAGE).put_acl(scope, acl)
        return answer({})

    @calls.get("/list")
    def list_all() -> Response:
        (scope,) = parse_names(request.args.to_dict(), "scope")
        found = _opened(deps, scope, READ).acls(scope)
        return answer({"items": [{"principal": acl.principal, "permission": acl.permission.value} for acl in found]})

    @calls.get("/get")
    def get() -> Response:
        scope, principal = parse_names(request.args.to_dict(), "scope", "principal")
        for acl in _opened(deps, scope, READ).acls(scope):
            if acl.principal == principal:
                return answer({"principal": principal, "permission": acl.permission.value})
        raise _missing(f"{principal} has nothing on the scope {scope}.")

    @calls.post("/delete")
    def delete() -> Response:
        scope, principal = parse_names(json_body(request), "scope", "principal")
        if not _opened(deps, scope, MANAGE).delete_acl(scope, principal):
            raise _missing(f"{principal} has nothing on the scope {scope}.")
        return answer({})

    return calls


def secret_problems(deps: Deps, path: str, spec: EntitySpec, endpoint: Endpoint | None) -> Iterator[Problem]:
    """What is wrong with an entity's references to secrets; one that its endpoint serves already just so is left alone.

    Just so: another model, or another variable beside the secret, could well tell it to somebody who may not read it.
    """
    active = endpoint.active.entity(spec.name) if endpoint and endpoint.active else None
    if active and active.spec.is_made_as(spec):
        return
    for name, value in spec.environment_vars:
        place = secret_reference(value)
        if deps.secrets is None or place is None:
            continue
        at = f"{path}.environment_vars.{name}"
        mine = deps.secrets.permission(place[0], current())
        if deps.secrets.missing([place]):
            message = f"there is no secret {value}; put it there first"
            yield Problem(at, ProblemCode.INVALID_PARAMETER_VALUE, message)
        elif mine is None:
            message = f"user {current().user} may not read the scope {place[0]}; whoever manages it can grant READ"
            yield Problem(at, ProblemCode.PERMISSION_DENIED, message)


def _store(deps: Deps) -> Secrets:
    if deps.secrets is None:
        raise ProblemError(Problem("", ProblemCode.NOT_IMPLEMENTED, "This control plane keeps no secrets."))
    return deps.secrets


def _opened(deps: Deps, scope: str, least: SecretPermission) -> Secrets:
    """The store of secrets, if the scope is there and the caller may do this with it."""
    store = _store(deps)
    mine = store.permission(scope, current())
    if mine is not None and scope not in store.scopes():
        mine = None
    if mine is None:  # whether there is one is nobody's business
        raise _missing(f"There is no scope {scope} that {current().user} may use.")
    if not mine.includes(least):
        raise refusal(f"{current().user} has {mine.value} on the scope {scope}, and needs {least.value}.")
    return store


def _missing(message: str) -> ProblemError:
    return ProblemError(Problem("", ProblemCode.RESOURCE_DOES_NOT_EXIST, message))
