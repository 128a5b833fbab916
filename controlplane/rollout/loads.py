"""The load of each cluster, put together from the reports of several Envoys. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.domain.load import LoadReport


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """What all Envoys together have under way for one cluster, and whether there were requests in the last interval."""

    concurrency: int
    active: bool


class Loads:
    """The last report of each Envoy, by cluster."""

    def __init__(self) -> None:
        self._by_node: dict[str, dict[str, LoadReport]] = {}
        self._by_cluster: dict[str, dict[str, LoadReport]] = {}

    def heard(self, node_id: str, reports: Sequence[LoadReport]) -> dict[str, ClusterLoad]:
        """Take one Envoy's report; the clusters it concerns. A cluster it no longer names has no requests there."""
        before = self._by_node.get(node_id, {})
        after = {report.cluster: report for report in reports}
        for cluster in before.keys() - after.keys():
            nodes = self._by_cluster[cluster]
            del nodes[node_id]
            if not nodes:
                del self._by_cluster[cluster]
        for cluster, report in after.items():
            self._by_cluster.setdefault(cluster, {})[node_id] = report
        if after:
            self._by_node[node_id] = after
        else:
            self._by_node.pop(node_id, None)
        return {cluster: self._load(cluster) for cluster in before.keys() | after.keys()}

    def _load(self, cluster: str) -> ClusterLoad:
        found = self._by_cluster.get(cluster, {}).values()
        return ClusterLoad(
            concurrency=sum(report.in_progress for report in found),
            active=any(report.issued or report.in_progress for report in found),
        )
