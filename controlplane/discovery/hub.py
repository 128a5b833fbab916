"""Where snapshots go in and acknowledgements come out: every live xDS stream, and what each Envoy has applied.

All state belongs to one asyncio loop; nothing here may be called from another thread, `envoys` and `changes` excepted.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.clock import Clock
from controlplane.domain import EnvoyStatus, Rejection, Verdict
from controlplane.translate.snapshot import Key, Snapshot
from controlplane.watch import Subscription


class Hub:
    """Publishes snapshots to all streams and answers whether resources are in use everywhere. (Signatures first; bodies follow.)"""

    def __init__(self, clock: Clock, *, lease: float = 300.0) -> None:
        """`lease` is how long (seconds) an Envoy that was lost counts for `include_lost`."""
        raise NotImplementedError

    @property
    def snapshot(self) -> Snapshot:
        """What was published last."""
        raise NotImplementedError

    def publish(self, snapshot: Snapshot) -> None:
        """Make `snapshot` what every Envoy is to have; costs O(changed) per stream when it succeeds the last one."""
        raise NotImplementedError

    def applied(self, targets: Mapping[Key, str | None], *, include_lost: bool = False) -> Verdict:
        """Whether every Envoy has acknowledged each target's version (None: that it is gone), as of now."""
        raise NotImplementedError

    async def wait_applied(
        self, targets: Mapping[Key, str | None], timeout: float, *, include_lost: bool = False
    ) -> Verdict:
        """`applied` as soon as it is done or a target was rejected, else as it stands after `timeout` seconds."""
        raise NotImplementedError

    def forget(self, node_id: str) -> None:
        """The process behind a lost node is known to be dead: nothing waits for it any more."""
        raise NotImplementedError

    @property
    def changes(self) -> int:
        """How many times an acknowledgement, refusal, connect or disconnect has changed anything."""
        raise NotImplementedError

    def subscribe(self) -> Subscription[str]:
        """A subscription, on the running loop, to the node ids about which anything changed."""
        raise NotImplementedError

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """What connected Envoys refuse at present, by node, type and name."""
        raise NotImplementedError

    def envoys(self) -> tuple[EnvoyStatus, ...]:
        """Every connected client and every lost Envoy; may be called from any thread."""
        raise NotImplementedError
