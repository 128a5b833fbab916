"""A registry for tests: it holds what it is given, and fails when told to."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.registry.model_registry import unavailable, unknown_model, unknown_version


class FakeRegistry:
    """A ModelRegistry that holds model name → version → artifact URI."""

    def __init__(self, models: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.models = {name: dict(versions) for name, versions in (models or {}).items()}
        #: Every (model, version) that was asked for, in order.
        self.asked: list[tuple[str, str]] = []
        #: Set it to the reason why no call succeeds.
        self.away = ""

    def resolve(self, model: str, version: str) -> str:
        """As `ModelRegistry.resolve`."""
        self.asked.append((model, version))
        if self.away:
            raise unavailable("fake:", self.away)
        versions = self.models.get(model)
        if versions is None:
            raise unknown_model(model)
        if version not in versions:
            raise unknown_version(model, version, versions)
        return versions[version]
