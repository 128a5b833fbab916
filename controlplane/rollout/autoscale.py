"""How many replicas an entity should have, from what its Envoys report. Pure: values in, values out, time included.

Up at once, because requests are waiting; down slowly, because load comes back: what counts is the greatest load of a
window, so a steady load, however noisy, gives a steady answer. After an idle time an entity that may scale to zero sleeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from controlplane.domain import ServedEntity
from controlplane.rollout.capacity import Room

#: Units of provisioned concurrency that one replica offers; one unit is one request at a time.
UNITS_PER_REPLICA = 4

#: Seconds after which it is asked again whether there is room by now.
_ROOM_AGAIN = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between how many replicas an entity scales, and whether it sleeps when nobody asks for it."""

    least: int
    most: int
    to_zero: bool = False


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """What users may change (`wye settings`); times in seconds."""

    #: How long the load must have been lower before replicas are given up.
    down_after: float = 300.0
    #: How long nobody may have asked before an entity that may scale to zero does.
    to_zero_after: float = 1800.0
    #: Replicas of one entity for each processor; 0 is any number.
    per_processor: int = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """So many requests were under way at that time."""

    at: float
    concurrency: float


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of an entity's load: the last request's time, and the samples that may still be the greatest.

    A sample is dropped as soon as a later one is as great, so there are few, each smaller than the one before it.
    """

    active_at: float
    samples: tuple[Sample, ...] = ()

    def then(self, sample: Sample, *, active: bool, options: ScaleOptions) -> History:
        """The history with one more sample; `active` says whether there were any requests since the last one."""
        kept = [
            each
            for each in self.samples
            if each.concurrency > sample.concurrency and each.at > sample.at - options.down_after
        ]
        return replace(self, active_at=sample.at if active else self.active_at, samples=(*kept, sample))


@dataclass(frozen=True, slots=True)
class Scale:
    """The answer, and when it may change though nothing is heard until then (None: never by itself)."""

    replicas: int
    ask_again_at: float | None = None
    #: Why it is not more, when it should be; "" when it need not be more.
    capped: str = ""


def bounds(entity: ServedEntity) -> Bounds:
    """Between how many replicas the API's words let an entity scale."""
    least, most = entity.spec.concurrency
    fewest = max(1, math.ceil(least / UNITS_PER_REPLICA))
    return Bounds(fewest, max(fewest, math.ceil(most / UNITS_PER_REPLICA)), entity.spec.scale_to_zero_enabled)


def scale(history: History, within: Bounds, now: float, options: ScaleOptions) -> Scale:
    """How many replicas to have now; 0 means asleep."""
    recent = [sample for sample in history.samples if sample.at + options.down_after > now]
    under_way = recent[-1].concurrency if recent else 0.0
    idle_at = history.active_at + options.to_zero_after
    if within.to_zero and under_way == 0 and now >= idle_at:
        return Scale(0)
    needed = math.ceil(recent[0].concurrency / UNITS_PER_REPLICA) if recent else 0
    replicas = min(within.most, max(within.least, needed))
    # Requests that are under way by the last report, and of which none tells any more, are forgotten with it.
    forgotten_at = recent[-1].at + options.down_after if under_way else idle_at
    again = [max(idle_at, forgotten_at)] if within.to_zero else []
    if replicas > within.least:
        again.append(recent[0].at + options.down_after)
    return Scale(replicas, min(again, default=None))


def cap(wanted: Scale, room: Room | None, now: float) -> Scale:
    """The same, but for no more replicas than there is room for; None is room for any number."""
    if room is None or wanted.replicas <= room.most:
        return wanted
    again = min(now + _ROOM_AGAIN, wanted.ask_again_at or math.inf)
    words = f"Capped at {room.most} of {wanted.replicas} replicas: the machine has no room for more; {room.why}."
    return Scale(room.most, again, words)
