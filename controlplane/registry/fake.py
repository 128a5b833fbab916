"""A registry for tests: it holds what it is given, and fails when told to."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.model import ModelDescription, ModelVersion
from controlplane.registry.model_registry import unavailable, unknown_alias, unknown_model, unknown_version


class FakeRegistry:
    """A ModelRegistry that holds model name → version → artifact URI."""

    def __init__(self, models: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.held = {name: dict(versions) for name, versions in (models or {}).items()}
        #: Model name → alias → version.
        self.aliases: dict[str, dict[str, str]] = {}
        #: Artifact URI → what the model says of itself; those that are not here say nothing.
        self.descriptions: dict[str, ModelDescription] = {}
        #: Every (model, version) that was asked for, in order.
        self.asked: list[tuple[str, str]] = []
        #: Set it to the reason why no call succeeds.
        self.away = ""

    def resolve(self, model: str, version: str) -> str:
        """As `ModelRegistry.resolve`."""
        self.asked.append((model, version))
        if self.away:
            raise unavailable("fake:", self.away)
        versions = self.held.get(model)
        if versions is None:
            raise unknown_model(model)
        if version not in versions:
            raise unknown_version(model, version, versions)
        return versions[version]

    def version_of(self, model: str, alias: str) -> str:
        """As `ModelRegistry.version_of`."""
        if self.away:
            raise unavailable("fake:", self.away)
        if model not in self.held:
            raise unknown_model(model)
        aliases = self.aliases.get(model, {})
        if alias not in aliases:
            raise unknown_alias(model, alias, aliases)
        return aliases[alias]

    def describe(self, artifact_uri: str) -> ModelDescription:
        """As `ModelRegistry.describe`."""
        if self.away:
            raise unavailable("fake:", self.away)
        return self.descriptions.get(artifact_uri, ModelDescription())

    def models(self, contains: str) -> tuple[str, ...]:
        """As `ModelRegistry.models`."""
        if self.away:
            raise unavailable("fake:", self.away)
        return tuple(sorted(name for name in self.held if contains.casefold() in name.casefold()))

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """As `ModelRegistry.versions`."""
        if self.away:
            raise unavailable("fake:", self.away)
        if model not in self.held:
            raise unknown_model(model)
        aliases = self.aliases.get(model, {})
        return tuple(
            ModelVersion(version, tuple(sorted(alias for alias, meant in aliases.items() if meant == version)))
            for version in sorted(self.held[model], key=int, reverse=True)
        )
