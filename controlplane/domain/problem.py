"""What can be wrong with a request, in words the user can act on, with the code the clients know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class ProblemCode(Enum):
    """An `error_code` of the API and the HTTP status that goes with it.

    The table is the one both the Databricks SDK and the MLflow client map to the right exception: some codes that look
    natural (UNAUTHORIZED) are unknown to one of them and would surface as a 500.
    """

    BAD_REQUEST = "BAD_REQUEST", 400
    INVALID_PARAMETER_VALUE = "INVALID_PARAMETER_VALUE", 400
    UNAUTHENTICATED = "UNAUTHENTICATED", 401
    PERMISSION_DENIED = "PERMISSION_DENIED", 403
    RESOURCE_DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST", 404
    RESOURCE_ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS", 409
    RESOURCE_CONFLICT = "RESOURCE_CONFLICT", 409
    REQUEST_LIMIT_EXCEEDED = "REQUEST_LIMIT_EXCEEDED", 429
    INTERNAL_ERROR = "INTERNAL_ERROR", 500
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED", 501
    TEMPORARILY_UNAVAILABLE = "TEMPORARILY_UNAVAILABLE", 503
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED", 504

    def __init__(self, code: str, status: int) -> None:
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (a JSON path such as `config.served_entities[0].name`, or ""), what kind, and what to do."""

    path: str
    code: ProblemCode
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ProblemError(Exception):
    """Refuses a request for one or more problems; the first one's code decides the HTTP status."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))

    @property
    def code(self) -> ProblemCode:
        """The code the answer carries."""
        return self.problems[0].code
