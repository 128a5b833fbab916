"""`?dry_run=true`: everything that stands in the way of a change, or all that it would change; nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import Request, Response

from controlplane.api.answer import answer
from controlplane.domain import Endpoint, Problem, ProblemCode, ProblemError
from controlplane.schema import dry_run


def is_trial(request: Request) -> bool:
    """Whether the request asks for a dry run; raises ProblemError for a word that could mean either."""
    word = request.args.get("dry_run", "false").lower()
    if word not in {"true", "false"}:
        problem = Problem("dry_run", ProblemCode.INVALID_PARAMETER_VALUE, f"is {word[:80]!r}; say true or false")
        raise ProblemError(problem)
    return word == "true"


def trial(before: Endpoint | None, make: Callable[[], Endpoint], problems: Iterable[Problem]) -> Response:
    """The answer of a dry run of a change that `make` carries out on values, unless there are `problems` already."""
    problems = list(problems)
    after = None
    if not problems:
        try:
            after = make()
        except ProblemError as refusal:
            problems.extend(refusal.problems)
    return answer(dry_run(before, after, problems))
