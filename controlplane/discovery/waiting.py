"""What is held back on one stream, and for which clusters. PURE."""

from __future__ import annotations

from controlplane.translate.snapshot import Key


class Waiting:
    """Resources that are not sent yet because the client does not use some cluster they refer to."""

    def __init__(self) -> None:
        self._missing: dict[Key, frozenset[str]] = {}
        self._by_cluster: dict[str, set[Key]] = {}

    def __bool__(self) -> bool:
        return bool(self._missing)

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that anything is held back for."""
        return tuple(self._by_cluster)

    def missing(self, key: Key) -> frozenset[str]:
        """The clusters that `key` is held back for; empty when it is not."""
        return self._missing.get(key, frozenset())

    def names(self, type_url: str) -> set[str]:
        """What is held back of one type; may be asked from any thread."""
        return {name for held, name in tuple(self._missing) if held == type_url}

    def hold(self, key: Key, missing: frozenset[str]) -> None:
        """Hold `key` back for these clusters."""
        self._missing[key] = missing
        for cluster in missing:
            self._by_cluster.setdefault(cluster, set()).add(key)

    def drop(self, key: Key) -> None:
        """`key` is not held back any more."""
        for cluster in self._missing.pop(key, ()):
            waiting = self._by_cluster[cluster]
            waiting.discard(key)
            if not waiting:
                del self._by_cluster[cluster]

    def waiting_for(self, cluster: str) -> frozenset[Key]:
        """What is held back for the cluster, among others perhaps."""
        return frozenset(self._by_cluster.get(cluster, ()))
