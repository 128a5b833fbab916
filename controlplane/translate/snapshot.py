"""All resources of the fleet of Envoys at one moment: immutable, with cheap successors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from controlplane.translate.resource import Resource

#: (type URL, resource name)
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Resources by type and name; `generation` grows by one with each successor, `changed` says what differs from the last."""

    generation: int = 0
    resources: Mapping[str, Mapping[str, Resource]] = field(default_factory=dict, repr=False)
    changed: frozenset[Key] = frozenset()

    def of(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of one type, by name."""
        return self.resources.get(type_url, MappingProxyType({}))

    def get(self, key: Key) -> Resource | None:
        """One resource, or None."""
        return self.of(key[0]).get(key[1])

    def successor(self, put: Iterable[Resource] = (), removed: Iterable[Key] = ()) -> Snapshot:
        """The snapshot after these changes; self when they change nothing. Costs a C-speed copy of the types touched."""
        types: dict[str, dict[str, Resource]] = {}
        changed: set[Key] = set()

        def writable(type_url: str) -> dict[str, Resource]:
            if type_url not in types:
                types[type_url] = dict(self.of(type_url))
            return types[type_url]

        for type_url, name in removed:
            if name in types.get(type_url, self.of(type_url)):
                del writable(type_url)[name]
                changed.add((type_url, name))
        for resource in put:
            present = types.get(resource.type_url, self.of(resource.type_url)).get(resource.name)
            if present is None or present != resource:
                writable(resource.type_url)[resource.name] = resource
                changed.add((resource.type_url, resource.name))
        if not changed:
            return self
        return Snapshot(self.generation + 1, {**self.resources, **types}, frozenset(changed))
