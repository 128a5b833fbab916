"""What the supervisor remembers of one endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controlplane.domain import Deployment, Replica
from controlplane.rollout.restart import Crashes
from controlplane.rollout.state import Observed, Published
from controlplane.translate.resource import Resource
from controlplane.translate.snapshot import Key


@dataclass(slots=True)
class Record:
    """Of one endpoint id; all of it can be computed anew after a restart."""

    name: str
    replicas: dict[str, Replica] = field(default_factory=dict)
    crashes: dict[str, Crashes] = field(default_factory=dict)
    published: Published | None = None
    resources: dict[Key, Resource] = field(default_factory=dict)
    #: What every Envoy must have acknowledged for `published` to be applied.
    targets: dict[Key, str | None] = field(default_factory=dict)
    #: True while the end of an update is being written.
    saving: bool = False
    #: What a bug raised last when this was routed, planned or acted on.
    bug: str = ""

    def observed(self, wanted: Mapping[Deployment, int]) -> Observed:
        """What `route` and `plan` go by, with the replicas that the autoscaler wants."""
        failures = {replica_id: crashes.times for replica_id, crashes in self.crashes.items() if crashes.times}
        return Observed(tuple(self.replicas.values()), failures, wanted)

    def shown(self, capped: Mapping[Deployment, str]) -> tuple[Replica, ...]:
        """The replicas with what only we know of them: their crashes, and why there are no more."""
        return tuple(
            replace(
                replica,
                crashes=len(self.crashes[replica_id].times),
                last_words=self.crashes[replica_id].last_words,
                note=capped.get(replica.deployment, ""),
            )
            for replica_id, replica in self.replicas.items()
        )

    def is_settled(self) -> bool:
        """True when nothing of it runs, and no Envoy has anything of it."""
        published = self.published
        nowhere = published is None or (published.settled_at is not None and not self.resources)
        return nowhere and not self.replicas and not self.saving
