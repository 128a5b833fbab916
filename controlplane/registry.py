"""The MLflow registry: where the files of a registered model's version are. The only file here that knows MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from controlplane.domain import Problem, ProblemCode, ProblemError


class ModelRegistry(Protocol):
    """Answers where a model version's files are."""

    def resolve(self, model: str, version: str) -> str:
        """The path or URI from which a worker loads that version without asking the registry.

        Raises ProblemError: RESOURCE_DOES_NOT_EXIST when there is no such model or version, INVALID_PARAMETER_VALUE
        when it is not ready to be used, TEMPORARILY_UNAVAILABLE when the registry does not answer.
        """


class Registry:
    """The MLflow registry at `tracking_uri`; nothing is imported or contacted before the first call."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri

    def resolve(self, model: str, version: str) -> str:
        """As `ModelRegistry.resolve`."""
        raise NotImplementedError


class FakeRegistry:
    """A registry that holds what it is given: model name → version → artifact URI."""

    def __init__(self, models: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.models = {name: dict(versions) for name, versions in (models or {}).items()}
        #: Every (model, version) that was asked for, in order.
        self.asked: list[tuple[str, str]] = []
        #: Set to make every call fail as if the registry were away.
        self.away = ""

    def resolve(self, model: str, version: str) -> str:
        """As `ModelRegistry.resolve`."""
        self.asked.append((model, version))
        if self.away:
            raise ProblemError(Problem("", ProblemCode.TEMPORARILY_UNAVAILABLE, self.away))
        versions = self.models.get(model)
        if versions is None:
            raise unknown_model(model)
        if version not in versions:
            raise unknown_version(model, version, versions)
        return versions[version]


def unknown_model(model: str) -> ProblemError:
    """What a model that is not registered is refused with."""
    return ProblemError(
        Problem(
            "",
            ProblemCode.RESOURCE_DOES_NOT_EXIST,
            f"no model named {model!r} is registered; check the name, or register the model first.",
        )
    )


def unknown_version(model: str, version: str, present: Mapping[str, object] | tuple[str, ...]) -> ProblemError:
    """What a version that the model does not have is refused with, naming some that it has."""
    known = sorted(present, key=lambda text: (len(text), text))[-10:]
    has = f"it has {', '.join(known)}" if known else "it has no versions yet"
    return ProblemError(
        Problem("", ProblemCode.RESOURCE_DOES_NOT_EXIST, f"model {model!r} has no version {version!r}; {has}.")
    )
