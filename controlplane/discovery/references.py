"""Which clusters a client may still be sending requests to, going by the routes it was sent. PURE.

Between sending a route and its ACK a client may use the old version or the new one, so both count. A cluster may be
withdrawn from the client when nothing counts for it any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.translate.snapshot import Key


class References:
    """Counts, per cluster, the versions of resources that refer to it and may be in use by one client.

    What becomes free by any of these calls is collected until `take_freed`.
    """

    def __init__(self) -> None:
        #: Key -> (number of the response, clusters referred to), oldest first. Absent: refers to nothing.
        self._live: dict[Key, tuple[tuple[int, frozenset[str]], ...]] = {}
        self._uses: dict[str, int] = {}
        #: What the client brought along from an earlier stream in a version we have never seen.
        self._unknown: set[Key] = set()
        self._freed: set[str] = set()
        self._became_known = False

    def is_used(self, cluster: str) -> bool:
        """Whether the client may have anything that refers to the cluster."""
        return cluster in self._uses or bool(self._unknown)

    def take_freed(self) -> frozenset[str] | None:
        """Clusters that nothing refers to any more, since the last time; None when that may be true of any cluster."""
        freed, self._freed = frozenset(self._freed), set()
        became_known, self._became_known = self._became_known, False
        return None if became_known else freed

    def brought(self, key: Key, refs: frozenset[str] | None) -> None:
        """The client has `key` from an earlier stream; None when it is not known what that refers to."""
        if refs is None:
            self._unknown.add(key)
            self._became_known = False
        else:
            self.sent(key, 0, refs)

    def sent(self, key: Key, seq: int, refs: frozenset[str]) -> None:
        """Response `seq` carries a new version of `key` (or its removal, which refers to nothing)."""
        versions = self._live.get(key, ())
        if refs or versions:
            self._live[key] = (*versions, (seq, refs))
            self._use(refs)

    def replace(self, key: Key, refs: frozenset[str]) -> None:
        """What the latest version of `key` refers to is now known to be `refs`."""
        self._known(key)
        versions = self._live.get(key)
        if versions is None:
            self.sent(key, 0, refs)
            return
        seq, before = versions[-1]
        if before != refs:
            self._live[key] = (*versions[:-1], (seq, refs))
            self._use(refs)
            self._release(before)

    def acked(self, key: Key, seq: int) -> None:
        """The client uses what response `seq` carried, and nothing older."""
        self._known(key)
        versions = self._live.get(key)
        if versions is not None and versions[0][0] != seq:
            self._keep(key, tuple(version for version in versions if version[0] >= seq))
            self._release(cluster for number, refs in versions if number < seq for cluster in refs)

    def rejected(self, key: Key, seq: int) -> None:
        """The client does not use what response `seq` carried."""
        versions = self._live.get(key)
        if versions is not None:
            self._keep(key, tuple(version for version in versions if version[0] != seq))
            self._release(cluster for number, refs in versions if number == seq for cluster in refs)

    def gone(self, key: Key) -> None:
        """The client does not have `key` any more."""
        self._known(key)
        self._release(cluster for _, refs in self._live.pop(key, ()) for cluster in refs)

    def _known(self, key: Key) -> None:
        if key in self._unknown:
            self._unknown.discard(key)
            self._became_known = not self._unknown

    def _keep(self, key: Key, versions: tuple[tuple[int, frozenset[str]], ...]) -> None:
        if any(refs for _, refs in versions):
            self._live[key] = versions
        else:
            del self._live[key]

    def _use(self, clusters: frozenset[str]) -> None:
        uses = self._uses
        for cluster in clusters:
            uses[cluster] = uses.get(cluster, 0) + 1

    def _release(self, clusters: Iterable[str]) -> None:
        for cluster in clusters:
            self._uses[cluster] -= 1
            if not self._uses[cluster]:
                del self._uses[cluster]
                self._freed.add(cluster)
