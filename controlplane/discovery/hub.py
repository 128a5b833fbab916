"""Where snapshots go in and acknowledgements come out: every live xDS stream, and what each Envoy has applied.

All state belongs to one asyncio loop; nothing here may be called from another thread, `envoys`, `ack_times` and `changes` excepted.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controlplane.clock import Clock
from controlplane.discovery.messages import Variant
from controlplane.discovery.session import Session
from controlplane.discovery.verdict import obstacle
from controlplane.domain import EnvoyStatus, Rejection, Verdict
from controlplane.domain.measurement import AckTimes
from controlplane.translate.snapshot import Key, Snapshot
from controlplane.watch import Subscription


@dataclass(frozen=True, slots=True)
class _Lost:
    """An Envoy whose stream ended: it may live on with what it had."""

    session: Session
    at: float
    at_ms: int


class Hub:
    """Publishes snapshots to all streams and answers whether resources are in use everywhere."""

    def __init__(self, clock: Clock, *, lease: float = 300.0) -> None:
        """`lease` is how long (seconds) an Envoy that was lost counts for `include_lost`."""
        self._clock = clock
        self._lease = lease
        self._snapshot = Snapshot()
        #: In nonces and the control plane's identifier, so that a log tells one life of the control plane from the next.
        self.epoch = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._sessions: dict[int, Session] = {}
        self._lost: dict[str, _Lost] = {}
        #: Envoys that another control plane had, and until when they count as lost (monotonic seconds).
        self._expected: dict[str, float] = {}
        self._changes = 0
        self._subscriptions: list[Subscription[str]] = []

    @property
    def snapshot(self) -> Snapshot:
        """What was published last."""
        return self._snapshot

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The live streams, oldest first."""
        return tuple(self._sessions.values())

    def publish(self, snapshot: Snapshot) -> None:
        """Make `snapshot` what every Envoy is to have.

        A snapshot whose generation follows the last one's is taken to be its successor, and costs O(changed) per
        stream; any other is compared as a whole.
        """
        before, self._snapshot = self._snapshot, snapshot
        if snapshot is before:
            return
        is_successor = snapshot.generation == before.generation + 1
        changed = snapshot.changed if is_successor else _difference(before, snapshot)
        for session in self.sessions:
            session.publish(snapshot, changed)

    def applied(self, targets: Mapping[Key, str | None], *, include_lost: bool = False) -> Verdict:
        """Whether every Envoy has acknowledged each target's version (None: that it is gone), as of now.

        With `include_lost`, Envoys whose connection broke count too, until they are back, forgotten, or their lease is
        over: they may still send requests by what they had. Ask this before ending what a target led to.
        """
        sessions = [session for session in self.sessions if session.node is not None and not session.dead]
        lost = [each.session for each in self._present_lost()] if include_lost else []
        waiting: list[str] = []
        if not any(session.is_envoy for session in sessions):
            # Nor with the lost ones included: after a restart of the control plane there may be some that nobody knows.
            waiting.append("no Envoy is connected")
        waiting += [f"{each}: has not come back yet" for each in self._still_expected()] if include_lost else []
        rejections: list[Rejection] = []
        for session in [*sessions, *lost]:
            who = session.node_id if session not in lost else f"{session.node_id} (connection lost)"
            for key, version in targets.items():
                why = obstacle(session, key, version)
                if why:
                    waiting.append(f"{who}: {why}")
                    rejection = session.rejection(key, version) if version is not None else None
                    if rejection is not None:
                        rejections.append(rejection)
        return Verdict(not waiting, tuple(waiting), tuple(rejections))

    async def wait_applied(
        self,
        targets: Mapping[Key, str | None],
        timeout: float,  # noqa: ASYNC109 - what there is at the timeout is an answer, not an error
        *,
        include_lost: bool = False,
    ) -> Verdict:
        """`applied` as soon as it is done or a target was rejected, else as it stands after `timeout` seconds."""
        verdict = self.applied(targets, include_lost=include_lost)
        if verdict.done or verdict.rejections:
            return verdict
        subscription = self.subscribe()
        try:
            async with asyncio.timeout(timeout):
                while not verdict.done and not verdict.rejections:
                    await subscription.wait()
                    subscription.take()
                    verdict = self.applied(targets, include_lost=include_lost)
        except TimeoutError:
            verdict = self.applied(targets, include_lost=include_lost)
        finally:
            subscription.close()
        return verdict

    def expect(self, node_ids: Iterable[str]) -> None:
        """These Envoys were connected to another control plane: they are lost, until they are back or their lease is over."""
        known = {session.node_id for session in self.sessions}
        for node_id in set(node_ids) - known:
            self._expected[node_id] = self._clock.monotonic() + self._lease
            asyncio.get_running_loop().call_later(self._lease, self._changed, node_id)

    @property
    def present(self) -> frozenset[str]:
        """The node ids of all Envoys that are connected, or lost and may still send requests."""
        live = {session.node_id for session in self.sessions if session.is_envoy and not session.dead}
        lost = {each.session.node_id for each in self._present_lost()}
        return frozenset(live | lost | set(self._still_expected()))

    def forget(self, node_id: str) -> None:
        """The process behind a node is known to be dead: nothing waits for it any more, until it speaks again."""
        self._lost.pop(node_id, None)
        self._expected.pop(node_id, None)
        for session in self.sessions:
            if session.node_id == node_id:
                session.dead = True
        self._changed(node_id)

    @property
    def changes(self) -> int:
        """How many times an acknowledgement, refusal, connect or disconnect may have changed anything."""
        return self._changes

    def subscribe(self) -> Subscription[str]:
        """A subscription, on the running loop, to the node ids about which anything changed."""
        subscription: Subscription[str] = Subscription(asyncio.get_running_loop(), self._subscriptions.remove)
        self._subscriptions.append(subscription)
        return subscription

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """What connected Envoys refuse of the present snapshot."""
        return tuple(rejection for session in self.sessions for rejection in session.rejections())

    def envoys(self) -> tuple[EnvoyStatus, ...]:
        """Every connected client and every lost Envoy; may be called from any thread."""
        live = [
            session.status(connected=True, since_ms=session.since_ms)
            for session in self.sessions
            if session.node is not None
        ]
        lost = [each.session.status(connected=False, since_ms=each.at_ms) for each in self._present_lost()]
        return (*live, *lost)

    def ack_times(self) -> tuple[AckTimes, ...]:
        """How long connected clients took to answer, on their present streams; may be called from any thread."""
        return tuple(
            AckTimes(session.node_id, type_url, seconds, refused)
            for session in self.sessions
            if session.node is not None
            for type_url, seconds, refused in session.ack_times.read()
        )

    def open(self, variant: Variant, only_type: str | None, on_work: Callable[[], None]) -> Session:
        """A session for a new stream; `on_work` is called when it may have something to send."""
        number = next(self._numbers)
        session = Session(
            variant,
            self._snapshot,
            self._clock,
            nonce_prefix=f"{self.epoch}.{number}-",
            only_type=only_type,
            on_change=self._session_changed,
            on_work=on_work,
        )
        self._sessions[number] = session
        return session

    def close(self, session: Session) -> None:
        """The stream has ended; an Envoy at its end is lost until it comes back."""
        self._sessions = {number: other for number, other in self._sessions.items() if other is not session}
        node_id = session.node_id
        if not node_id:
            return
        # A hot restart has two processes with one id; what remains speaks for the node.
        still_there = any(other.node_id == node_id for other in self.sessions)
        if session.is_envoy and not session.dead and not still_there:
            self._lost[node_id] = _Lost(session, self._clock.monotonic(), self._clock.now_ms())
            asyncio.get_running_loop().call_later(self._lease, self._changed, node_id)
        self._changed(node_id)

    def _session_changed(self, session: Session) -> None:
        self._lost.pop(session.node_id, None)
        self._expected.pop(session.node_id, None)
        self._changed(session.node_id)

    def _present_lost(self) -> list[_Lost]:
        now = self._clock.monotonic()
        return [lost for lost in tuple(self._lost.values()) if now - lost.at < self._lease]

    def _still_expected(self) -> list[str]:
        now = self._clock.monotonic()
        return sorted(node_id for node_id, until in self._expected.items() if now < until)

    def _changed(self, node_id: str) -> None:
        self._changes += 1
        for subscription in self._subscriptions:
            subscription.add((node_id,))


def _difference(before: Snapshot, after: Snapshot) -> frozenset[Key]:
    changed: set[Key] = set()
    for type_url in before.resources.keys() | after.resources.keys():
        old, new = before.of(type_url), after.of(type_url)
        changed.update((type_url, name) for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return frozenset(changed)
