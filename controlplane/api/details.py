"""An endpoint as the calls that make, show or change it answer."""

from __future__ import annotations

from flask import Response

from controlplane.api.answer import answer
from controlplane.api.caller import permission
from controlplane.api.deps import Deps
from controlplane.domain import Endpoint, Permission
from controlplane.schema import endpoint_details


def details(deps: Deps, endpoint: Endpoint) -> Response:
    """The endpoint in full, as it is at this moment."""
    return answer(
        endpoint_details(endpoint, deps.replicas_of(endpoint.id), permission(endpoint) or Permission.CAN_VIEW)
    )
