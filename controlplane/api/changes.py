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

    A transition that returns the endpoint as it is stores nothing. When the stored endpoint turns out to be newer, the transition is made once more, from that one. Raises
    StaleWriteError when that one is overtaken as well, and whatever the transition raises.
    """
    try:
        return _save(deps, endpoint, transition(endpoint))
    except StaleWriteError:
        stored = _there(deps.endpoints.refresh(endpoint.name), endpoint.name)
        return _save(deps, stored, transition(stored))


def await_delivery(deps: Deps, endpoint: Endpoint, what: str) -> None:
    """Return when every Envoy keeps to `what` was just stored of the endpoint, in words for the caller.

    Raises ProblemError (TEMPORARILY_UNAVAILABLE) that names who does not yet; the same call again tells how it stands.
    """
    waiting = deps.undelivered(endpoint)
    if waiting:
        message = f"The {what} is stored, but not every Envoy keeps to it yet ({waiting}); send this again to know."
        raise ProblemError(Problem("", ProblemCode.TEMPORARILY_UNAVAILABLE, message))


def _save(deps: Deps, before: Endpoint, after: Endpoint) -> Endpoint:
    if after is not before:
        deps.endpoints.save(after)
    return after


def _there(endpoint: Endpoint | None, name: str) -> Endpoint:
    if endpoint is None:
        problem = Problem("", ProblemCode.RESOURCE_DOES_NOT_EXIST, f"Serving endpoint with name {name} not found.")
        raise ProblemError(problem)
    return endpoint
