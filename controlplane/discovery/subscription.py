"""What one client wants of one resource type on one stream, what it was sent, and what it said to that. PURE.

The rules are those of xds.md sections 1.3 and 1.4. A subscription decides nothing about order: it collects the names
that may have to be sent (`dirty`), and `stages` says which of them may go now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.discovery.refusal import blamed
from controlplane.translate.resource import Resource

#: Responses of a type that may wait for their ACK. Beyond it changes coalesce, so that a client that reads but never
#: answers costs no more than one that does.
MOST_IN_FLIGHT = 32

Resources = Mapping[str, Resource]


@dataclass(slots=True)
class Sent:
    """A response on its way: what it changes for the client, by name; None is a removal."""

    seq: int
    generation: int
    entries: dict[str, str | None]
    content: dict[str, Resource] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a client's answer to one response says about the resources in it."""

    seq: int
    acked: Mapping[str, str | None] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)
    #: In the refused response too, but not said to be at fault: each is sent once more, alone, to learn its state.
    unclear: frozenset[str] = frozenset()
    #: The client's words when it refused the response, else None.
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a request meant to the subscription, for whoever keeps accounts across types."""

    settled: tuple[Settled, ...] = ()
    #: Names the client has given up: it no longer uses what it had.
    forgotten: frozenset[str] = frozenset()


class Subscription:
    """State of one (stream, type); the two variants say how requests change it."""

    #: Whether the client can be told that something it asked for does not exist.
    tells_absence = True
    #: Whether the client can be told that something it has is gone.
    tells_removal = True

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.started = False
        self.wild = False
        self.names: set[str] = set()
        #: Name -> version the client will have once it has processed all that was sent.
        self.known: dict[str, str] = {}
        #: Name -> version it has acknowledged. A removal that is on its way has left both.
        self.acked: dict[str, str] = {}
        #: Name -> number of the response that removed it, until that is settled.
        self.departing: dict[str, int] = {}
        #: Name -> versions it has refused, which are never sent again.
        self.rejected: dict[str, set[str]] = {}
        #: Names to look at when the stream can be written to.
        self.dirty: set[str] = set()
        #: Known names that are gone from the snapshot, to be removed when nothing needs them any more.
        self.leaving: set[str] = set()
        #: Names to send even if the client has that version.
        self.forced: set[str] = set()
        #: Names to answer with "does not exist" if they do not.
        self.asked: set[str] = set()
        #: Names to send in a response of their own.
        self.alone: deque[str] = deque()
        #: A response is due even if it is empty.
        self.owes_reply = False
        #: The client has something from an earlier stream that it would delete if the first response left it out.
        self.resuming = False
        self.in_flight: dict[str, Sent] = {}
        #: Generation of the last response that was acknowledged.
        self.generation = 0

    def wants(self, name: str) -> bool:
        """Whether the client is to have that resource if it exists."""
        return self.wild or name in self.names

    @property
    def congested(self) -> bool:
        """True while too many responses await their ACK for another one to be of use."""
        return len(self.in_flight) >= MOST_IN_FLIGHT

    @property
    def has_work(self) -> bool:
        """Whether anything might be sent now."""
        return bool(self.dirty or self.leaving or self.alone or self.owes_reply) and not self.congested

    def touch(self, name: str) -> None:
        """The resource changed in the snapshot."""
        if self.wants(name) or name in self.known:
            self.dirty.add(name)

    def force(self, names: Iterable[str]) -> None:
        """Send these again even if the client has them, and say so if they do not exist."""
        for name in names:
            if self.wants(name):
                self.forced.add(name)
                self.asked.add(name)
                self.dirty.add(name)

    def is_in_flight(self, name: str) -> bool:
        """Whether a response that concerns `name` awaits its answer."""
        return any(name in sent.entries for sent in self.in_flight.values())

    def drop(self, name: str) -> None:
        """Forget a resource without a word: the client does not want it, or cannot be told that it is gone."""
        self._forget((name,))

    def is_gone(self, name: str) -> bool:
        """Whether the client surely does not have `name`."""
        return name not in self.known and not self.is_in_flight(name)

    def record(
        self, puts: Sequence[Resource], removed: Sequence[str], nonce: str, seq: int, generation: int
    ) -> tuple[Sequence[Resource], Sequence[str]]:
        """Note that this is sent as `nonce`; what the response has to contain for the client to end up there."""
        entries: dict[str, str | None] = {}
        for resource in puts:
            self.known[resource.name] = entries[resource.name] = resource.version
        for name in removed:
            entries[name] = None
            self.known.pop(name, None)
            self.acked.pop(name, None)
            self.departing[name] = seq
        self.forced -= entries.keys()
        self.asked -= entries.keys()
        self.owes_reply = self.resuming = False
        self.in_flight[nonce] = Sent(seq, generation, entries)
        return puts, removed

    def settle(self, nonce: str, error: str | None) -> Settled | None:
        """Take the client's answer to a response; None when there is no such response (any more)."""
        sent = self.in_flight.pop(nonce, None)
        if sent is None:
            return None
        if error is None:
            return self._accepted(sent)
        return self._refused(sent, error)

    def _accepted(self, sent: Sent) -> Settled:
        self._end_departures(sent)
        for name, version in sent.entries.items():
            if (
                version is not None and name not in self.departing
            ):  # else what is acknowledged here has been withdrawn since
                self.acked[name] = version
                self.rejected.get(name, set()).discard(version)
        self.generation = max(self.generation, sent.generation)
        return Settled(sent.seq, acked=sent.entries)

    def _refused(self, sent: Sent, error: str) -> Settled:
        at_fault = set(sent.entries) if len(sent.entries) == 1 else blamed(error, sent.entries)
        rejected = {name: version for name, version in sent.entries.items() if name in at_fault and version is not None}
        unclear = frozenset(sent.entries) - at_fault
        self._end_departures(sent)
        for name, version in rejected.items():
            self._reject(name, version)
        for name in sorted(unclear):
            # Only if nothing newer is on its way, whose answer will tell.
            if self.known.get(name) == sent.entries[name]:
                self.alone.append(name)
        return Settled(sent.seq, rejected=rejected, unclear=unclear, message=error)

    def _end_departures(self, sent: Sent) -> None:
        if not self.departing:
            return
        for name, version in sent.entries.items():
            if version is None and self.departing.get(name) == sent.seq:
                del self.departing[name]

    def _reject(self, name: str, version: str) -> None:
        self.rejected.setdefault(name, set()).add(version)
        if self.known.get(name) == version:
            # The client keeps what it had.
            if name in self.acked:
                self.known[name] = self.acked[name]
            else:
                del self.known[name]

    def _forget(self, names: Iterable[str]) -> frozenset[str]:
        forgotten = frozenset(names)
        for name in forgotten:
            self.known.pop(name, None)
            self.acked.pop(name, None)
            self.departing.pop(name, None)
            self.rejected.pop(name, None)
            for pending in (self.dirty, self.leaving, self.forced, self.asked):
                pending.discard(name)
            # An ACK still to come speaks of what the client had before it gave the name up.
            for sent in self.in_flight.values():
                sent.entries.pop(name, None)
        if self.alone:
            self.alone = deque(name for name in self.alone if name not in forgotten)
        return forgotten
