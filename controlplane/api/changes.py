"""Finding endpoints and changing them, with one more try when somebody else was faster."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.api.deps import Deps
from controlplane.domain import Endpoint, Problem, ProblemCode, ProblemError
from controlplane.store import StaleWriteError


def find(deps: Deps, name: str) -> Endpoint:
    """The endpoint of that name; raises ProblemError (RESOURCE_DOES_NOT_EXIST)."""
    return _there(deps.endpoints.get(name), name)


def change(deps: Deps, endpoint: Endpoint, transition: Callable[[Endpoint], Endpoint]) -> Endpoint:
    """The successor that `transition` makes of `endpoint`, stored and visible to the next read.

    When the stored endpoint turns out to be newer, the transition is made once more, from that one. Raises
    StaleWriteError when that one is overtaken as well, and whatever the transition raises.
    """
    try:
        return _save(deps, transition(endpoint))
    except StaleWriteError:
        stored = _there(deps.endpoints.refresh(endpoint.name), endpoint.name)
        return _save(deps, transition(stored))


def _save(deps: Deps, endpoint: Endpoint) -> Endpoint:
    deps.endpoints.save(endpoint)
    return endpoint


def _there(endpoint: Endpoint | None, name: str) -> Endpoint:
    if endpoint is None:
        problem = Problem("", ProblemCode.RESOURCE_DOES_NOT_EXIST, f"Serving endpoint with name {name} not found.")
        raise ProblemError(problem)
    return endpoint
