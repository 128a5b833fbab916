"""What the control plane asks of a registry of models, and the words in which it says no."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from controlplane.domain import Problem, ProblemCode, ProblemError
from controlplane.domain.model import ModelDescription, ModelVersion

#: Names or versions of one answer.
MOST_LISTED = 200


class ModelRegistry(Protocol):
    """Answers where a model version's files are, and what they say of the model.

    Every call may raise ProblemError (TEMPORARILY_UNAVAILABLE) when the registry does not answer.
    """

    def resolve(self, model: str, version: str) -> str:
        """The path or URI from which a worker loads that version without asking the registry.

        Raises ProblemError: RESOURCE_DOES_NOT_EXIST when there is no such model or version, INVALID_PARAMETER_VALUE
        when it is not ready to be used.
        """

    def version_of(self, model: str, alias: str) -> str:
        """The version that an alias of the model stands for at this moment.

        Raises ProblemError (RESOURCE_DOES_NOT_EXIST) when there is no such model or alias.
        """

    def describe(self, artifact_uri: str) -> ModelDescription:
        """What the model whose files are there says of itself, for one that `resolve` has answered."""

    def models(self, contains: str) -> tuple[str, ...]:
        """The names of registered models that contain this, whatever the case; sorted, at most MOST_LISTED."""

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """A registered model's versions, the newest first, at most MOST_LISTED.

        Raises ProblemError (RESOURCE_DOES_NOT_EXIST) when there is no such model.
        """


def unknown_model(model: str) -> ProblemError:
    """What a model that is not registered is refused with."""
    return _problem(
        ProblemCode.RESOURCE_DOES_NOT_EXIST,
        f"no model named {model!r} is registered; check the name, or register the model first",
    )


def unknown_version(model: str, version: str, present: Iterable[str]) -> ProblemError:
    """What a version that the model does not have is refused with, naming the latest that it has."""
    latest = sorted(present, key=lambda text: (len(text), text))[-10:]
    has = f"it has {', '.join(latest)}" if latest else "it has no versions yet"
    return _problem(ProblemCode.RESOURCE_DOES_NOT_EXIST, f"model {model!r} has no version {version!r}; {has}")


def unknown_alias(model: str, alias: str, present: Iterable[str]) -> ProblemError:
    """What an alias that the model does not have is refused with, naming those that it has."""
    aliases = sorted(present)[:10]
    has = f"it has {', '.join(f'@{name}' for name in aliases)}" if aliases else "it has no aliases"
    return _problem(ProblemCode.RESOURCE_DOES_NOT_EXIST, f"model {model!r} has no alias '@{alias}'; {has}")


def not_ready(model: str, version: str, status: str) -> ProblemError:
    """What a version that MLflow itself does not call READY is refused with."""
    return _problem(
        ProblemCode.INVALID_PARAMETER_VALUE,
        f"version {version} of model {model!r} is {status} in the registry; it can be served once it is READY",
    )


def unavailable(where: str, reason: str) -> ProblemError:
    """What a registry that does not answer refuses everything with; neither argument may hold credentials."""
    return _problem(ProblemCode.TEMPORARILY_UNAVAILABLE, f"the MLflow registry at {where} does not answer: {reason}")


def _problem(code: ProblemCode, message: str) -> ProblemError:
    return ProblemError(Problem("", code, message))
