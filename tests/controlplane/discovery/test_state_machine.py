"""Random configurations, clients, delays, refusals and broken streams, against what must always hold."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controlplane.discovery.envoy_model import EnvoyModel, Received
from controlplane.discovery.messages import Node, Response, Variant
from controlplane.discovery.testing import resource
from controlplane.discovery.verdict import obstacle
from controlplane.translate.resource import Resource
from controlplane.translate.snapshot import Key, Snapshot
from tests.controlplane.discovery.histories import Wire, any_history
from tests.controlplane.discovery.rig import CDS, EDS, LDS, RDS, SRDS

CLUSTERS = st.sampled_from(["c0", "c1", "c2", "c3"])
ENDPOINTS = st.sampled_from(["e0", "e1", "e2"])
CONTENTS = st.sampled_from(["x", "y", "z"])

#: Histories of `test_many_histories`, about a millisecond each.
HISTORIES = 600

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put_endpoint"), ENDPOINTS, st.frozensets(CLUSTERS, min_size=1, max_size=2), CONTENTS),
        st.tuples(st.just("delete_endpoint"), ENDPOINTS),
        st.tuples(st.just("collect_clusters")),
        st.tuples(st.just("change_cluster"), CLUSTERS, CONTENTS),
        st.tuples(st.just("change_endpoints"), CLUSTERS, CONTENTS),
        st.tuples(st.just("lose_endpoints"), CLUSTERS),
        st.tuples(st.just("change_listener"), CONTENTS),
    ),
    min_size=1,
    max_size=5,
)


class EnvoyMachine(RuleBasedStateMachine):
    """An Envoy that follows clusters to endpoints and scopes to routes, and a store that is always consistent."""

    variant = Variant.DELTA

    def __init__(self) -> None:
        super().__init__()
        self.poisoned: set[tuple[str, str]] = set()
        #: What the server has been told is refused.
        self.refused: set[tuple[str, str, str]] = set()
        #: endpoint -> clusters
        self.routing: dict[str, frozenset[str]] = {}
        self.put: dict[Key, Resource] = {}
        self.removed: set[Key] = set()
        #: (route, version) -> clusters it refers to
        self.refs: dict[tuple[str, str], frozenset[str]] = {}
        #: clusters that have been warm since the client got them
        self.usable: set[str] = set()
        self.at_risk = False

    def refusal(self, it: Resource) -> str:
        # Not endpoints: without any a changed cluster has to wait, whoever serves it.
        return "is poisoned" if it.type_url != EDS and (it.name, it.version) in self.poisoned else ""

    @initialize()
    def begin(self) -> None:
        model = EnvoyModel(self.variant, Node("envoy-1", "gateway", "envoy"), follows=True, refusal=self.refusal)
        self.wire = Wire(Snapshot().successor([resource(LDS, "l", "x")]), model)

    # The store.

    def add(self, it: Resource) -> Resource:
        key = (it.type_url, it.name)
        self.put[key] = it
        self.removed.discard(key)
        return it

    def drop(self, *key: str) -> None:
        self.put.pop((key[0], key[1]), None)
        self.removed.add((key[0], key[1]))

    def present(self, type_url: str, name: str) -> bool:
        key = (type_url, name)
        return key in self.put or (key not in self.removed and self.wire.snapshot.get(key) is not None)

    @rule(operations=OPERATIONS)
    def publish(self, operations: list[tuple[Any, ...]]) -> None:
        for operation, *arguments in operations:
            getattr(self, operation)(*arguments)
        self.wire.publish(self.put.values(), self.removed)
        self.put.clear()
        self.removed.clear()

    def put_endpoint(self, endpoint: str, clusters: frozenset[str], content: str) -> None:
        for cluster in sorted(clusters):
            if not self.present(CDS, cluster):
                self.add(resource(CDS, cluster, content))
            if not self.present(EDS, cluster):
                self.add(resource(EDS, cluster, content))
        self.routing[endpoint] = clusters
        # As in a real route, the clusters are part of the bytes.
        routes = self.add(resource(RDS, endpoint, content + "".join(sorted(clusters)), clusters))
        self.refs[endpoint, routes.version] = clusters
        self.add(resource(SRDS, f"s-{endpoint}", "", clusters, routes=endpoint))

    def delete_endpoint(self, endpoint: str) -> None:
        if self.routing.pop(endpoint, None) is not None:
            self.drop(RDS, endpoint)
            self.drop(SRDS, f"s-{endpoint}")

    def collect_clusters(self) -> None:
        used = frozenset[str]().union(*self.routing.values())
        for cluster in ("c0", "c1", "c2", "c3"):
            if cluster not in used:
                self.drop(CDS, cluster)
                self.drop(EDS, cluster)

    def change_cluster(self, cluster: str, content: str) -> None:
        if self.present(CDS, cluster):
            self.add(resource(CDS, cluster, content))

    def change_endpoints(self, cluster: str, content: str) -> None:
        if self.present(CDS, cluster):
            self.add(resource(EDS, cluster, content))

    def lose_endpoints(self, cluster: str) -> None:
        self.drop(EDS, cluster)

    def change_listener(self, content: str) -> None:
        self.add(resource(LDS, "l", content))

    @rule(name=CLUSTERS | ENDPOINTS, content=CONTENTS)
    def poison(self, name: str, content: str) -> None:
        for type_url in (CDS, RDS):
            self.poisoned.add((name, resource(type_url, name, content).version))

    @rule()
    def heal(self) -> None:
        self.poisoned.clear()

    # The wire.

    @rule(steps=st.lists(st.sampled_from("rwc"), min_size=1, max_size=16))
    def pump(self, steps: list[str]) -> None:
        """Let the server read, the server write and the client read, in this order."""
        for step in steps:
            {"r": self.server_reads, "w": self.server_writes, "c": self.client_reads}[step]()

    def server_reads(self) -> None:
        news = self.wire.to_server[0] if self.wire.to_server else None
        self.wire.server_reads()
        if news is not None and news.error is not None:
            refused = next(each for each in self.wire.sent if each.nonce == news.nonce)
            self.refused |= {
                (each.type_url, each.name, each.version) for each in refused.resources if f"{each.name}: " in news.error
            }

    def server_writes(self) -> None:
        before = len(self.wire.sent)
        self.wire.server_writes()
        for response in self.wire.sent[before:]:
            self.check_cause(response)

    def client_reads(self) -> None:
        received = self.wire.client_reads()
        if received is not None:
            self.check_safety(received)

    @rule(type_url=st.sampled_from([CDS, EDS, RDS, SRDS]))
    def client_keeps_silent(self, type_url: str) -> None:
        self.wire.model.mute.add(type_url)

    @rule()
    def client_answers(self) -> None:
        self.wire.say(self.wire.model.answer())

    @rule()
    def stream_breaks(self) -> None:
        self.refused.clear()
        self.wire.connect()
        # In the state of the world a client does not say what it has, so what was removed meanwhile goes at once.
        self.at_risk = self.variant is Variant.SOTW

    # What must hold.

    def check_cause(self, response: Response) -> None:
        """Nothing that was refused is sent again, nothing twice in a response, and nothing for no reason."""
        names = [each.name for each in response.resources]
        assert len(names) == len(set(names))
        assert not set(names) & set(response.removed)
        if self.variant is Variant.SOTW and response.type_url == CDS:
            return  # where leaving a name out would delete what the client has had since before this stream
        for each in response.resources:
            assert (each.type_url, each.name, each.version) not in self.refused

    def check_safety(self, received: Received) -> None:
        """No route comes before its clusters can be used, and no cluster goes while a route needs it."""
        model = self.wire.model
        clusters = model.view.get(CDS, {})
        self.usable &= clusters.keys()
        self.usable |= clusters.keys() - model.warming
        for route in () if self.at_risk else model.view.get(RDS, {}).values():
            needed = self.refs[route.name, route.version]
            assert needed <= self.usable, f"after {received}: {route.name} needs {needed - self.usable}"

    @invariant()
    def usable_is_up_to_date(self) -> None:
        if hasattr(self, "wire"):
            clusters = self.wire.model.view.get(CDS, {})
            self.usable &= clusters.keys()
            self.usable |= clusters.keys() - self.wire.model.warming

    def teardown(self) -> None:
        if hasattr(self, "wire"):
            self.settle()

    @rule()
    def settle(self) -> None:
        """Once everything has been delivered and answered, the client has what the store has."""
        self.come_to_rest()
        self.at_risk = self.at_risk and self.is_disturbed(self.wire.snapshot)
        self.check_end()

    def come_to_rest(self) -> None:
        model = self.wire.model
        for _ in range(2000):
            self.wire.say(model.answer())
            if not self.wire.busy():
                if not model.warming:
                    return
                assert self.variant is Variant.SOTW or self.poisoned, "in delta nothing warms in vain"
                self.wire.say(model.give_up_warming())
            self.pump(["r", "w", "c"])
        raise AssertionError("the two never come to rest")

    def check_end(self) -> None:
        model, snapshot = self.wire.model, self.wire.snapshot
        targets = {
            (each.type_url, each.name): each.version
            for types in snapshot.resources.values()
            for each in types.values()
            if each.type_url != EDS or snapshot.get((CDS, each.name))
        }
        if self.is_disturbed(snapshot):
            return
        obstacles = [obstacle(self.wire.session, key, version) for key, version in targets.items()]
        assert not any(obstacles), [each for each in obstacles if each]
        assert self.wire.session.unanswered == 0
        assert model.versions(CDS) == {name: each.version for name, each in sorted(snapshot.of(CDS).items())}
        assert model.versions(RDS) == {name: each.version for name, each in sorted(snapshot.of(RDS).items())}
        assert model.versions(SRDS) == {name: each.version for name, each in sorted(snapshot.of(SRDS).items())}
        assert model.versions(LDS) == {name: each.version for name, each in sorted(snapshot.of(LDS).items())}
        for name, each in snapshot.of(EDS).items():
            if name in model.view.get(CDS, {}):
                assert model.versions(EDS)[name] == each.version

    def is_disturbed(self, snapshot: Snapshot) -> bool:
        """Whether something is refused, so that the rest may lag behind."""
        poisoned = any(
            (each.name, each.version) in self.poisoned for types in (CDS, RDS) for each in snapshot.of(types).values()
        )
        refused = (snapshot.get((type_url, name)) for type_url, name, _ in self.refused)
        return poisoned or any(each and (each.type_url, each.name, each.version) in self.refused for each in refused)


class SotwEnvoyMachine(EnvoyMachine):
    """The same over the state of the world."""

    variant = Variant.SOTW


def any_operation(random: Random) -> tuple[Any, ...]:
    """An operation on the store, as `OPERATIONS` has them, the frequent ones more often."""
    endpoint, cluster = random.choice(["e0", "e1", "e2"]), random.choice(["c0", "c1", "c2", "c3"])
    clusters = frozenset(random.sample(["c0", "c1", "c2", "c3"], random.randint(1, 2)))
    content = random.choice("xyz")
    return random.choice(
        [
            ("put_endpoint", endpoint, clusters, content),
            ("put_endpoint", endpoint, clusters, content),
            ("collect_clusters",),
            ("collect_clusters",),
            ("change_cluster", cluster, content),
            ("change_endpoints", cluster, content),
            ("lose_endpoints", cluster),
            ("delete_endpoint", endpoint),
        ]
    )


def any_step(random: Random, machine: EnvoyMachine) -> None:
    """One thing that may happen, the frequent ones more often."""
    chance = random.random()
    if chance < 0.25:
        machine.publish([any_operation(random) for _ in range(random.randint(1, 3))])
    elif chance < 0.8:
        machine.pump(random.choices("rwc", k=random.randint(1, 12)))
    elif chance < 0.9:
        machine.settle()
    elif chance < 0.93:
        machine.stream_breaks()
    elif chance < 0.95:
        machine.client_keeps_silent(random.choice([CDS, EDS, RDS, SRDS]))
    elif chance < 0.97:
        machine.client_answers()
    elif chance < 0.99:
        machine.poison(random.choice(["c0", "c1", "c2", "e0", "e1"]), random.choice("xyz"))
    else:
        machine.heal()


@pytest.mark.parametrize("machine", [EnvoyMachine, SotwEnvoyMachine])
def test_many_histories(machine: type[EnvoyMachine]) -> None:
    """The same in bulk, from fixed seeds: many more histories in the time, but they do not shrink to what matters."""
    for seed in range(HISTORIES):
        random = Random(seed)
        it = machine()
        it.begin()
        try:
            for _ in range(40):
                any_step(random, it)
                it.usable_is_up_to_date()
            it.settle()
        except AssertionError as error:
            raise AssertionError(f"in the history of seed {seed}: {error}") from error


@pytest.mark.parametrize("machine", [EnvoyMachine, SotwEnvoyMachine])
def test_any_history(machine: type[EnvoyMachine]) -> None:
    """Whatever happens in whatever order, no request is put at risk, and in the end the client has what it should."""
    any_history(machine)
