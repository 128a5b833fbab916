"""What Envoys report of the requests they carry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadReport:
    """One Envoy's requests to one cluster during the interval that has just ended."""

    node_id: str
    cluster: str
    #: Length of the interval in seconds.
    seconds: float
    #: Requests begun in the interval, answered without and with an error in it, and under way at its end.
    issued: int
    succeeded: int
    failed: int
    in_progress: int
    #: Requests that were refused because of the cluster's limits.
    dropped: int = 0
