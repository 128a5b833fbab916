"""What histories of a client and a session are made of: messages that arrive when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from controlplane.clock import FakeClock
from controlplane.discovery.envoy_model import EnvoyModel, Received, Request
from controlplane.discovery.messages import Response
from controlplane.discovery.session import Session
from controlplane.translate.resource import Resource
from controlplane.translate.snapshot import Key, Snapshot


class Wire:
    """A client and a session with messages between them that arrive when the test says so."""

    def __init__(self, snapshot: Snapshot, model: EnvoyModel) -> None:
        self.snapshot = snapshot
        self.model = model
        self._clock = FakeClock()
        self.to_server: deque[Request] = deque()
        self.to_client: deque[Received] = deque()
        self.sent: list[Response] = []
        self.session: Session
        self.connect()

    def connect(self) -> None:
        """A new stream; what was on its way is lost."""
        self.to_server.clear()
        self.to_client.clear()
        self.sent.clear()
        self.session = Session(self.model.variant, self.snapshot, self._clock)
        self.say(self.model.start())

    def publish(self, put: Iterable[Resource], removed: Iterable[Key] = ()) -> None:
        before, self.snapshot = self.snapshot, self.snapshot.successor(put, removed)
        if self.snapshot is not before:
            self.session.publish(self.snapshot, self.snapshot.changed)

    def say(self, requests: list[Request]) -> None:
        self.to_server.extend(requests)

    def server_reads(self) -> None:
        if self.to_server:
            self.session.receive(self.to_server.popleft())

    def server_writes(self) -> None:
        response = self.session.next_response()
        if response is None:
            return
        self.sent.append(response)
        self.to_client.append(
            Received(
                response.type_url,
                response.version,
                response.nonce,
                tuple(response.resources),
                tuple(response.removed),
            )
        )

    def client_reads(self) -> Received | None:
        if not self.to_client:
            return None
        received = self.to_client.popleft()
        self.say(self.model.receive(received))
        return received

    def busy(self) -> bool:
        return bool(self.to_server or self.to_client or self.session.has_work)


def any_history(machine: type[RuleBasedStateMachine]) -> None:
    """Let anything happen in any order, until one of the machine's assertions fails or many histories have passed."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,  # the gate is repeatable; look for more with other settings
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
