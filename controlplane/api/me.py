"""Who the caller is, as clients ask it when they start."""

from __future__ import annotations

import hashlib

from flask import Blueprint, Response

from controlplane.api.answer import answer
from controlplane.api.caller import current
from controlplane.api.deps import Deps


def blueprint(deps: Deps) -> Blueprint:
    """The call of this file."""
    calls = Blueprint("me", __name__)

    @calls.get("/api/2.0/preview/scim/v2/Me")
    def me() -> Response:
        caller = current()
        response = answer(
            {
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                "id": _number(caller.user),
                "userName": caller.user,
                "displayName": caller.user,
                "active": True,
                "emails": [{"type": "work", "value": caller.user, "primary": True}],
                "groups": [{"display": group, "value": _number(group), "type": "direct"} for group in caller.groups],
            }
        )
        response.headers["X-Databricks-Org-Id"] = deps.workspace_id
        return response

    return calls


def _number(name: str) -> str:
    """An id that is always the same for the same name; clients want digits."""
    return str(int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]))
