"""The statistics of Envoys about served entities, read from their admin interfaces."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from controlplane.clock import Clock
from controlplane.domain import Address
from controlplane.domain.measurement import EnvoyReading, Histogram, Traffic
from controlplane.measurements import exposition

_log = logging.getLogger(__name__)

#: Seconds that an Envoy may take to answer.
PATIENCE = 5.0
#: Reading its statistics keeps an Envoy's main thread from everything else, configuration included: some 0.2 s with ten
#: thousand endpoints, even if all are idle. So what was read is used again until this many times as long has passed.
REST = 50
#: … but for no longer than so many seconds: what took long may have been this machine, and not an Envoy.
LONGEST_REST = 10.0

_CLUSTER = "envoy_cluster_name"
_REQUESTS = "envoy_cluster_upstream_rq_"
#: Statistics that no request has touched are left out: they are most of those of idle endpoints.
_QUERY = {"usedonly": "", "filter": r"^cluster\.[^.]*/[^.]*\.upstream_rq_([1-5]xx|active|time)$"}


class Envoys:
    """Reads the Envoys at these admin addresses. Safe to use from any thread."""

    def __init__(self, addresses: Sequence[Address], clock: Clock) -> None:
        self._clock = clock
        self._admins = [_Admin(address) for address in addresses]
        self._pool = ThreadPoolExecutor(max(1, len(self._admins)), "envoy-statistics")
        self._lock = threading.Lock()
        self._last: tuple[EnvoyReading, ...] = ()
        self._fresh_until = float("-inf")

    def close(self) -> None:
        """Let go of them."""
        self._pool.shutdown()
        for admin in self._admins:
            admin.close()

    def read(self) -> tuple[EnvoyReading, ...]:
        """What each has counted since it started; one that does not answer is not `up`, and nobody waits for it long."""
        with self._lock:
            began = self._clock.monotonic()
            if began >= self._fresh_until:
                self._last = tuple(self._pool.map(_Admin.read, self._admins))
                ended = self._clock.monotonic()
                all_up = all(reading.up for reading in self._last)
                self._fresh_until = ended + min(LONGEST_REST, REST * (ended - began)) if all_up else ended
            return self._last


class _Admin:
    """One Envoy's admin interface."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._base = "http://envoy" if address.path else f"http://{address}"
        transport = httpx.HTTPTransport(uds=address.path) if address.path else None
        self._http = httpx.Client(transport=transport, timeout=PATIENCE, trust_env=False)
        self._node = ""

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def read(self) -> EnvoyReading:
        """Its statistics; never raises."""
        try:
            if not self._node:
                self._node = str(json.loads(self._get("/server_info"))["node"]["id"])
            return EnvoyReading(self._node, True, traffic(self._get("/stats/prometheus", _QUERY)))
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            reason = f"{self._address}: {error or type(error).__name__}"
            node, self._node = self._node or str(self._address), ""
            return EnvoyReading(node, False, message=reason)

    def _get(self, path: str, query: dict[str, str] | None = None) -> str:
        answer = self._http.get(self._base + path, params=query)
        answer.raise_for_status()
        return answer.text


def traffic(text: str) -> dict[str, Traffic]:
    """Envoy's statistics in Prometheus' text format, by the name of the cluster in them."""
    read = exposition.lines(text)
    classes: dict[str, dict[str, int]] = {}
    active: dict[str, int] = {}
    for name, labels, value in read:
        cluster = labels.get(_CLUSTER, "")
        if name == f"{_REQUESTS}xx":
            classes.setdefault(cluster, {})[f"{labels.get('envoy_response_code_class', '')}xx"] = int(value)
        elif name == f"{_REQUESTS}active":
            active[cluster] = int(value)
    latencies = {
        cluster: latency
        for (name, cluster), latency in exposition.histograms(read, _CLUSTER).items()
        if name == f"{_REQUESTS}time"
    }
    return {
        cluster: Traffic(
            tuple(sorted(classes.get(cluster, {}).items())),
            active.get(cluster, 0),
            latencies.get(cluster, Histogram((), 0.0)),
        )
        for cluster in classes.keys() | active.keys() | latencies.keys()
    }
