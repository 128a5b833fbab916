"""The list of endpoints: which are shown, in which order, and what of each. Values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from controlplane.domain import Endpoint, EndpointConfig, Phase, Replica, UpdateState
from controlplane.load_history import Key, Recent
from controlplane.schema.status import DeploymentState, active_status, is_ready, pending_status

PER_PAGE = 50
SORTS = ("name", "-changed", "-rate", "-errors", "-p99", "state")


@dataclass(frozen=True, slots=True)
class Condition:
    """An endpoint's state in a word, how it is to look, and the reason when there is one."""

    word: str
    #: good, busy, warn, bad or off: a class of the style sheet.
    tone: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """One served entity of a split."""

    name: str
    model: str
    version: str
    alias: str
    percent: int


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint of the list."""

    name: str
    description: str
    condition: Condition
    shares: tuple[Share, ...]
    load: Recent
    replicas: int
    changed_ms: int
    changed_by: str
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to see of the list."""

    text: str = ""
    #: `key` or `key=value`.
    tag: str = ""
    state: str = ""
    sort: str = "name"
    page: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list."""

    rows: tuple[Row, ...]
    page: int
    pages: int
    found: int
    total: int


Load = Callable[[Sequence[Key]], Recent]
ReplicasOf = Callable[[str], tuple[Replica, ...]]


def listed(endpoints: Iterable[Endpoint], asked: Asked, replicas_of: ReplicasOf, load: Load) -> Page:
    """The page that was asked for; the load of an endpoint is looked up only where it is shown or sorted by."""
    present = list(endpoints)
    found = [endpoint for endpoint in present if _matches(endpoint, asked, replicas_of)]
    found.sort(key=lambda endpoint: endpoint.name)
    found.sort(key=_order(asked.sort, replicas_of, load))
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(max(1, asked.page), pages)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    rows = tuple(row(endpoint, replicas_of(endpoint.id), load(keys(endpoint))) for endpoint in shown)
    return Page(rows, page, pages, len(found), len(present))


def row(endpoint: Endpoint, replicas: Sequence[Replica], load: Recent) -> Row:
    """What the list shows of an endpoint."""
    shown = endpoint.active or endpoint.pending
    latest = endpoint.pending or endpoint.active
    return Row(
        name=endpoint.name,
        description=endpoint.description,
        condition=condition(endpoint, replicas),
        shares=shares(shown),
        load=load,
        replicas=sum(replica.phase is Phase.READY for replica in replicas),
        changed_ms=endpoint.updated_ms,
        changed_by=(latest.creator if latest else "") or endpoint.creator,
        tags=tuple((tag.key, tag.value) for tag in endpoint.tags),
    )


def condition(endpoint: Endpoint, replicas: Sequence[Replica]) -> Condition:
    """How an endpoint is doing, the worst first."""
    ready = is_ready(endpoint, replicas)
    if endpoint.update is UpdateState.IN_PROGRESS:
        return Condition("Updating" if endpoint.active else "Creating", "busy", _progress(endpoint, replicas))
    if endpoint.update is UpdateState.UPDATE_FAILED:
        return Condition("Update failed", "warn" if ready else "bad", _failure(endpoint, replicas))
    if endpoint.suspended:
        return Condition("Stopped", "off")
    if endpoint.active is None:
        return Condition("Empty", "off", "It has no configuration yet.")
    if not ready:
        return Condition("Not ready", "bad", _not_ready(endpoint, replicas))
    awake = {each.deployment for each in replicas if each.phase is Phase.READY}
    if not awake:
        return Condition("Ready, asleep", "good", "Scaled to zero: the next request starts a replica.")
    if endpoint.update is UpdateState.UPDATE_CANCELED:
        return Condition("Ready", "good", "The last update was canceled.")
    return Condition("Ready", "good")


def shares(config: EndpointConfig | None) -> tuple[Share, ...]:
    """A config's served entities with their percentages."""
    percents = {route.served_entity: route.percent for route in config.traffic} if config else {}
    return tuple(
        Share(e.name, e.spec.entity_name, e.spec.entity_version, e.spec.alias, percents.get(e.name, 0))
        for e in (config.entities if config else ())
    )


def keys(endpoint: Endpoint) -> list[Key]:
    """Under which the load of an endpoint's served entities is remembered."""
    config = endpoint.active or endpoint.pending
    return [(endpoint.id[:8], entity.name) for entity in config.entities] if config else []


def tags_of(endpoints: Iterable[Endpoint], most: int = 100) -> list[str]:
    """The tags to choose from, as `key=value`, the most frequent ones when there are too many."""
    counts: dict[str, int] = {}
    for endpoint in endpoints:
        for tag in endpoint.tags:
            text = f"{tag.key}={tag.value}" if tag.value else tag.key
            counts[text] = counts.get(text, 0) + 1
    return sorted(sorted(counts, key=lambda text: -counts[text])[:most])


def _matches(endpoint: Endpoint, asked: Asked, replicas_of: ReplicasOf) -> bool:
    if asked.tag and not any(asked.tag in {tag.key, f"{tag.key}={tag.value}"} for tag in endpoint.tags):
        return False
    if asked.text and not all(word in _text(endpoint) for word in asked.text.casefold().split()):
        return False
    return not asked.state or condition(endpoint, replicas_of(endpoint.id)).tone == asked.state


def _text(endpoint: Endpoint) -> str:
    """All that a search looks in."""
    words = [endpoint.name, endpoint.description, endpoint.creator]
    words += [part for tag in endpoint.tags for part in (tag.key, tag.value)]
    for config in (endpoint.active, endpoint.pending):
        words += (
            [part for entity in config.entities for part in (entity.name, entity.spec.entity_name)] if config else []
        )
    return "\0".join(words).casefold()


_TONES = ("bad", "warn", "busy", "off", "good")


def _order(sort: str, replicas_of: ReplicasOf, load: Load) -> Callable[[Endpoint], float]:
    orders: dict[str, Callable[[Endpoint], float]] = {
        "-changed": lambda endpoint: -endpoint.updated_ms,
        "-rate": lambda endpoint: -load(keys(endpoint)).requests,
        "-errors": lambda endpoint: -(load(keys(endpoint)).error_share or 0.0),
        "-p99": lambda endpoint: -(load(keys(endpoint)).p99 or 0.0),
        "state": lambda endpoint: _TONES.index(condition(endpoint, replicas_of(endpoint.id)).tone),
    }
    return orders.get(sort, lambda _: 0.0)


def _progress(endpoint: Endpoint, replicas: Sequence[Replica]) -> str:
    entities = endpoint.pending.entities if endpoint.pending else ()
    said = [(entity.name, pending_status(endpoint, entity, replicas)) for entity in entities]
    busy = [f"{name}: {status.message}" for name, status in said if status.state is not DeploymentState.READY]
    return busy[0] if busy else "Waiting for Envoy to acknowledge it."


def _failure(endpoint: Endpoint, replicas: Sequence[Replica]) -> str:
    entities = endpoint.pending.entities if endpoint.pending else ()
    said = [(entity.name, pending_status(endpoint, entity, replicas)) for entity in entities]
    failed = [f"{name}: {status.message}" for name, status in said if status.state is DeploymentState.FAILED]
    return failed[0] if failed else next((status.message for _, status in said if status.message), "")


def _not_ready(endpoint: Endpoint, replicas: Sequence[Replica]) -> str:
    entities = endpoint.active.entities if endpoint.active else ()
    said = [(entity.name, active_status(endpoint, entity, replicas)) for entity in entities]
    return next((f"{name}: {status.message}" for name, status in said if status.message), "")
