"""Whether a replica takes one more request in hand, or says at once that it has too many. Pure.

What counts is the wait that a request would have, because that is what its sender notices: a model that answers in
microseconds may have a thousand requests in hand, one that takes seconds only a few. A request that is taken is answered;
one that would wait too long costs nothing but its refusal, so a replica does as much work under any load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: Requests in hand beyond which none is taken, however quick the model is: each holds its body.
MOST = 1024

#: Seconds from the first request on in which what begins tells nothing of what comes later: a model imports, allocates and
#: compiles, and a crowd that has waited for the process arrives at once, of which nobody is to be refused.
WARMING = 2.0

#: The part of each new measurement in the pace: some ten predictions count.
_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Queue:
    """How many requests a replica takes in hand, those in the model included."""

    #: So many in any case …
    requests: int = 32
    #: … and more as long as each can expect to be answered within so many seconds.
    seconds: float = 0.5
    #: Seconds after which nobody waits for an answer any more.
    timeout: float = 297.0

    def overridden(self, variables: Mapping[str, str]) -> Queue:
        """The same, but for what a served entity's variables WYE_QUEUE and WYE_QUEUE_SECONDS say.

        Raises ValueError when they are not numbers, or not such as make sense.
        """
        requests, seconds = variables.get("WYE_QUEUE", ""), variables.get("WYE_QUEUE_SECONDS", "")
        if requests and not (requests.isdigit() and 1 <= int(requests) <= MOST):
            raise ValueError(f"WYE_QUEUE={requests!r}: say a number of requests, 1 to {MOST}")
        try:
            parsed = float(seconds) if seconds else self.seconds
        except ValueError:
            parsed = math.nan
        if not 0 <= parsed < math.inf:
            raise ValueError(f"WYE_QUEUE_SECONDS={seconds!r}: say a number of seconds")
        return Queue(int(requests) if requests else self.requests, parsed, self.timeout)


class Admission:
    """Knows how fast one replica's model is, and so what one more request would have to wait."""

    __slots__ = ("pace", "queue")

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        #: Seconds between two answers when there is always another request; 0 as long as it is not known.
        self.pace = 0.0

    def predicted(self, seconds: float, requests: float, age: float) -> None:
        """A prediction took so long for so many requests; one of several side by side counts for as many.

        It began `age` seconds after the replica's first request.
        """
        if age >= WARMING:
            pace = seconds / requests
            self.pace = self.pace + _WEIGHT * (pace - self.pace) if self.pace else pace

    def refusal(self, in_hand: int) -> int:
        """0 to take a request beside the `in_hand` ones, else the seconds after which it is worth another try."""
        if in_hand < self.queue.requests and in_hand * self.pace < self.queue.timeout:
            return 0
        wait = in_hand * self.pace
        if in_hand < MOST and wait < self.queue.seconds:
            return 0
        return max(1, min(30, math.ceil(wait / 2)))
