"""Clients that subscribe to anything at any time, against what must always hold."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from controlplane.discovery.envoy_model import EnvoyModel
from controlplane.discovery.messages import Node, Variant
from controlplane.discovery.testing import resource
from controlplane.translate.snapshot import Snapshot
from tests.controlplane.discovery.histories import Wire, any_history
from tests.controlplane.discovery.rig import CDS, EDS, LDS, RDS, SDS

CONTENTS = st.sampled_from(["x", "y", "z"])
NAMES = st.sampled_from(["a", "b", "c"])
TYPES = st.sampled_from([CDS, EDS, LDS, RDS, SDS])


class ClientMachine(RuleBasedStateMachine):
    """A client that subscribes to anything at any time, in any variant, and a store without references."""

    variant = Variant.DELTA

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire(Snapshot(), EnvoyModel(self.variant, Node("client", "", "grpc")))

    @rule(type_url=TYPES, name=NAMES, content=CONTENTS)
    def put(self, type_url: str, name: str, content: str) -> None:
        self.wire.publish([resource(type_url, name, content)])

    @rule(type_url=TYPES, name=NAMES)
    def remove(self, type_url: str, name: str) -> None:
        self.wire.publish((), [(type_url, name)])

    @rule(type_url=TYPES, names=st.frozensets(NAMES | st.just("*"), max_size=3))
    def subscribe(self, type_url: str, names: frozenset[str]) -> None:
        self.wire.say(self.wire.model.subscribe(type_url, names))

    @rule(type_url=TYPES, names=st.frozensets(NAMES, max_size=3))
    def unsubscribe(self, type_url: str, names: frozenset[str]) -> None:
        model = self.wire.model
        # A name that the client has never asked for by itself is none that it can give up.
        named = names & model.subscribed.get(type_url, set())
        if named and self.variant is Variant.DELTA:
            self.wire.say(model.subscribe(type_url, (), named))

    @rule(times=st.integers(1, 4))
    def deliver(self, times: int) -> None:
        for _ in range(times):
            self.wire.server_reads()
            self.wire.server_writes()

    @rule(times=st.integers(1, 4))
    def client_reads(self, times: int) -> None:
        for _ in range(times):
            self.wire.client_reads()

    @rule()
    def stream_breaks(self) -> None:
        self.wire.connect()

    def teardown(self) -> None:
        """Once everything has been delivered and answered, the client has what it wants of the store."""
        while self.wire.busy():
            self.wire.server_reads()
            self.wire.server_writes()
            self.wire.client_reads()
        model = self.wire.model
        for type_url in model.subscribed:
            subscription = self.wire.session.subscription(type_url)
            assert subscription is not None
            have = self.wire.snapshot.of(type_url)
            wanted = {name: each.version for name, each in sorted(have.items()) if subscription.wants(name)}
            view = {name: version for name, version in model.versions(type_url).items() if subscription.wants(name)}
            if self.variant is Variant.SOTW and type_url in {EDS, RDS, SDS}:
                # This variant cannot tell that such a resource is gone.
                view = {name: version for name, version in view.items() if name in have}
            assert view == wanted
            assert subscription.acked == {name: wanted[name] for name in subscription.acked}
            assert self.wire.session.unanswered == 0


class SotwClientMachine(ClientMachine):
    """The same over the state of the world."""

    variant = Variant.SOTW


@pytest.mark.parametrize("machine", [ClientMachine, SotwClientMachine])
def test_any_history(machine: type[ClientMachine]) -> None:
    """Whatever happens in whatever order, in the end the client has what it should."""
    any_history(machine)
