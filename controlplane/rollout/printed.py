"""What replicas have printed: whose lines belong to a served entity, and keeping those of an update that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from controlplane.domain import Endpoint, Replica, ServedEntity
from controlplane.domain.measurement import LogKind
from controlplane.rollout.state import deployment, new_entities, replica_id
from controlplane.runtimes import OutOfReachError, Runtime
from controlplane.store import Store, StoreUnavailableError

_log = logging.getLogger(__name__)

#: Of how many replicas of an entity the lines are looked for, those that are gone included.
MOST_REPLICAS = 16
#: Lines of each replica that are kept after a failure, and seconds that asking for them may take.
KEPT_LINES = 500
PATIENCE = 3.0


def replica_ids(endpoint_id: str, entity: ServedEntity, replicas: Iterable[Replica] = ()) -> list[str]:
    """The ids of all replicas that the entity can have had, besides those it has among `replicas`, sorted."""
    where = deployment(endpoint_id, entity)
    _, most = entity.spec.concurrency  # no entity has more replicas than units
    ids = {replica_id(where, slot) for slot in range(min(MOST_REPLICAS, most))}
    return sorted(ids | {replica.id for replica in replicas if replica.deployment == where})


def joined(texts: Iterable[tuple[str, str]]) -> str:
    """The lines of several replicas, each after the id of its own."""
    return "\n".join(f"[{replica}] {line}" for replica, text in texts for line in text.splitlines())


class LastWords:
    """Keeps what the replicas of a failed update have printed, because they and their files will be gone."""

    def __init__(self, runtime: Runtime, store: Store) -> None:
        self._runtime = runtime
        self._store = store

    async def keep(self, attempted: Endpoint, failed: Endpoint) -> None:
        """Keep the logs of the entities that `attempted` was bringing up when it `failed`; never raises for a lack of them."""
        assert failed.pending is not None
        logs: dict[tuple[str, LogKind], str] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                for entity in new_entities(attempted):
                    for kind in LogKind:
                        logs[entity.name, kind] = await self._printed(failed.id, entity, kind)
        except (OutOfReachError, TimeoutError) as error:
            _log.warning("the logs of %s cannot be kept: %s", failed.name, error or "the worker host does not answer")
        try:
            await asyncio.to_thread(self._store.keep_logs, failed.id, failed.pending.version, logs)
        except StoreUnavailableError as error:
            _log.warning("the logs of %s cannot be kept: %s", failed.name, error)

    async def _printed(self, endpoint_id: str, entity: ServedEntity, kind: LogKind) -> str:
        ask = self._runtime.logs if kind is LogKind.OUTPUT else self._runtime.build_logs
        return joined([(each, await ask(each, KEPT_LINES)) for each in replica_ids(endpoint_id, entity)])
