"""What one stream may be sent when, step by step and without a wire."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.clock import FakeClock
from controlplane.discovery.messages import DeltaRequest, Node, Response, SotwRequest, Variant
from controlplane.discovery.session import Session
from controlplane.translate.resource import Resource
from controlplane.translate.snapshot import Key, Snapshot
from tests.controlplane.discovery.rig import CDS, EDS, LDS, RDS, SRDS, resource

ENVOY = Node("envoy-1", "gateway", "envoy")
SHORT = {CDS: "cds", EDS: "eds", LDS: "lds", RDS: "rds", SRDS: "srds"}


def routes(name: str, *clusters: str, content: str = "") -> Resource:
    """Routes to these clusters, which are part of the bytes."""
    return resource(RDS, name, content + " ".join(clusters), clusters)


def scope(name: str, *clusters: str) -> Resource:
    """The scope that leads to the routes of its name; its bytes do not say which clusters those need."""
    return resource(SRDS, name, "", clusters, routes=name)


def cluster(name: str, content: str = "") -> tuple[Resource, Resource]:
    """A cluster and its endpoints."""
    return resource(CDS, name, content), resource(EDS, name)


class Stream:
    """A session whose client answers when the test says so."""

    def __init__(self, *resources: Resource, variant: Variant = Variant.DELTA, agent: Node = ENVOY) -> None:
        self.variant = variant
        self.snapshot = Snapshot().successor(resources)
        self.session = Session(variant, self.snapshot, FakeClock())
        self._node = agent
        self._unanswered: list[Response] = []

    def asks(self, type_url: str, *names: str, initial: Iterable[Resource] = (), version: str = "") -> Stream:
        """The client asks for something for the first time, or for more."""
        request: DeltaRequest | SotwRequest
        if self.variant is Variant.DELTA:
            has = {each.name: each.version for each in initial}
            request = DeltaRequest(type_url, names, initial=has, node=self._node)
        else:
            request = SotwRequest(type_url, names, node=self._node, version=version)
        self.session.receive(request)
        return self

    def publishes(self, *put: Resource, removed: Iterable[Key] = ()) -> list[str]:
        """The store changes; what is sent because of that."""
        self.snapshot = self.snapshot.successor(put, removed)
        self.session.publish(self.snapshot, self.snapshot.changed)
        return self.sends()

    def sends(self) -> list[str]:
        """All that may be sent now, as `cds a -b`."""
        out = []
        while (response := self.session.next_response()) is not None:
            self._unanswered.append(response)
            names = [each.name for each in response.resources] + [f"-{name}" for name in response.removed]
            out.append(" ".join([SHORT[response.type_url], *names]))
        return out

    def answers(self, *types: str, error: str | None = None) -> list[str]:
        """The client answers what it was sent of these types (none: of all); what is sent because of that."""
        answered = [each for each in self._unanswered if not types or each.type_url in types]
        self._unanswered = [each for each in self._unanswered if each not in answered]
        for each in answered:
            subscription = self.session.subscription(each.type_url)
            assert subscription is not None
            if self.variant is Variant.DELTA:
                self.session.receive(DeltaRequest(each.type_url, nonce=each.nonce, error=error))
            else:
                names = tuple(subscription.names)
                self.session.receive(SotwRequest(each.type_url, names, each.nonce, error))
        return self.sends()

    def settles(self) -> Stream:
        """The client answers until there is nothing more to answer."""
        self.sends()
        while self._unanswered:
            self.answers()
        return self


def serving(*names: str, variant: Variant = Variant.DELTA) -> Stream:
    """A stream on which each name is an endpoint with a cluster of its name, all of it acknowledged."""
    resources = [each for name in names for each in (*cluster(name), routes(name, name), scope(name, name))]
    stream = Stream(*resources, resource(LDS, "l"), variant=variant)
    stream.asks(CDS).asks(EDS, *names).asks(LDS).asks(SRDS).asks(RDS, *names)
    return stream.settles()


def test_first_things_first() -> None:
    """On a new stream clusters go at once, what leads to them when they are acknowledged."""
    stream = Stream(*cluster("a"), routes("r", "a"), scope("s", "a"), resource(LDS, "l"))
    stream.asks(CDS).asks(EDS, "a").asks(LDS).asks(SRDS).asks(RDS, "r")
    # The empty answer for scopes is due: Envoy's start waits for one.
    assert stream.sends() == ["cds a", "eds a", "lds l", "srds"]
    assert stream.answers(CDS) == ["srds s", "rds r"]


def test_routes_wait_for_all_their_clusters() -> None:
    """Routes to two new clusters wait for both."""
    stream = serving("a")
    assert stream.publishes(*cluster("b")) == ["cds b"]
    assert stream.publishes(*cluster("c"), routes("a", "b", "c"), scope("a", "b", "c")) == ["cds c"]
    assert stream.session.missing((RDS, "a")) == {"b", "c"}
    (first, _) = stream._unanswered
    stream.session.receive(DeltaRequest(CDS, nonce=first.nonce))
    assert stream.sends() == []
    assert stream.session.missing((RDS, "a")) == {"c"}
    assert stream.answers() == ["rds a"]
    assert stream.session.missing((RDS, "a")) == frozenset()


def test_routes_to_a_cluster_that_does_not_exist() -> None:
    """Routes to a cluster that is nowhere are held back until it is there and acknowledged."""
    stream = serving("a")
    assert stream.publishes(routes("a", "a", "nowhere")) == []
    assert stream.publishes(*cluster("nowhere")) == ["cds nowhere"]
    assert stream.answers() == ["rds a"]


def test_newer_routes_overtake_those_that_wait() -> None:
    """Routes that need nothing new go at once, even if an earlier version of them is waiting; that one is not sent."""
    stream = serving("a")
    stream.publishes(*cluster("b"), routes("a", "b"))
    assert stream.publishes(routes("a", "a", content="weights")) == ["rds a"]
    assert stream.answers() == []


def test_routes_that_wait_are_not_said_to_be_missing() -> None:
    """A client that asks for routes which are held back gets them later, and no word that they do not exist."""
    stream = serving("a")
    stream.publishes(*cluster("b"), routes("new", "b"), scope("new", "b"))
    stream.asks(RDS, "new")
    assert stream.sends() == []
    assert stream.answers(CDS) == ["srds new", "rds new"]


def test_changed_cluster_may_be_used_while_it_warms() -> None:
    """A cluster that is being changed was usable before and is so still: routes to it do not wait."""
    stream = serving("a", "b")
    stream.publishes(resource(CDS, "a", "2"))
    assert stream.publishes(routes("b", "a")) == ["rds b"]


def test_cluster_that_comes_back_is_a_new_one() -> None:
    """A cluster that was withdrawn and published again may be used when the new one is acknowledged, not before."""
    stream = serving("a")
    stream.publishes(*cluster("b"))
    stream.settles()
    assert stream.publishes(removed=[(CDS, "b"), (EDS, "b")]) == ["cds -b"]
    assert stream.publishes(*cluster("b"), routes("a", "b")) == ["cds b"]
    assert stream.answers() == ["rds a"]


def test_clusters_stay_while_routes_are_on_their_way() -> None:
    """Between new routes and their ACK both clusters stay; a refusal keeps the old one for good."""
    stream = serving("a", "b")
    assert stream.publishes(routes("a", "b"), scope("a", "b"), removed=[(CDS, "a"), (EDS, "a")]) == ["rds a"]
    assert stream.answers(error="a: no") == []
    assert stream.publishes(routes("a", "b", content="better")) == ["rds a"]
    assert stream.answers() == ["cds -a"]
    assert stream.answers() == ["eds -a"]


def test_cluster_that_is_wanted_again_stays() -> None:
    """A cluster whose withdrawal waited is kept when it is published again meanwhile."""
    stream = serving("a", "b")
    stream.publishes(routes("a", "b"), scope("a", "b"), removed=[(CDS, "a"), (EDS, "a")])
    assert stream.publishes(*cluster("a")) == []
    assert stream.answers() == []


def test_changed_then_removed_cluster_keeps_its_hosts() -> None:
    """A cluster that was changed, and then removed while routes still need it, gets the endpoints it had."""
    stream = serving("a", "b")
    stream.snapshot = stream.snapshot.successor([resource(CDS, "a", "2")])
    stream.session.publish(stream.snapshot, stream.snapshot.changed)
    response = stream.session.next_response()  # the changed cluster is out, its endpoints are not yet
    assert response is not None
    stream._unanswered.append(response)
    sent = stream.publishes(routes("a", "b"), scope("a", "b"), removed=[(CDS, "a"), (EDS, "a")])
    assert sent == ["eds a", "rds a"]
    assert stream.answers() == ["cds -a"]
    assert stream.answers() == ["eds -a"]


def test_endpoints_stay_as_long_as_their_cluster() -> None:
    """Endpoints are not withdrawn from a cluster that still has to serve; without it they go."""
    stream = serving("a", "b")
    assert stream.publishes(routes("a", "b"), scope("a", "b"), removed=[(EDS, "a"), (CDS, "a")]) == ["rds a"]
    assert stream.answers(RDS) == ["cds -a"]
    assert stream.answers(CDS) == ["eds -a"]


def test_endpoints_alone_are_withdrawn_at_once() -> None:
    """Endpoints of a cluster that stays are withdrawn when they are removed."""
    assert serving("a").publishes(removed=[(EDS, "a")]) == ["eds -a"]


def test_scopes_before_routes_both_ways() -> None:
    """A removed scope is acknowledged before its routes are withdrawn."""
    stream = serving("a", "b")
    assert stream.publishes(removed=[(SRDS, "a"), (RDS, "a")]) == ["srds -a"]
    assert stream.answers() == ["rds -a"]


def test_refused_removal_is_tried_again_once() -> None:
    """When a response with a removal is refused because of something else in it, the removal is repeated."""
    stream = serving("a", "b")
    stream.publishes(resource(CDS, "x"), removed=[])
    stream.settles()
    assert stream.publishes(resource(CDS, "bad"), removed=[(CDS, "x")]) == ["cds bad", "cds -x"]
    assert stream.answers(error="bad: no") == []


def test_same_scope_other_clusters() -> None:
    """A scope whose bytes stay the same is not sent again when its routes move to other clusters, nor holds on to the old ones."""
    stream = serving("a", "b")
    assert stream.publishes(routes("a", "b"), scope("a", "b")) == ["rds a"]
    stream.answers()
    assert stream.publishes(removed=[(CDS, "a"), (EDS, "a")]) == ["cds -a"]


def reconnected(*resources: Resource, had: Iterable[Resource]) -> Stream:
    """A stream on which a client with `had` has asked for clusters and nothing else yet."""
    stream = Stream(*resources)
    return stream.asks(CDS, initial=[each for each in had if each.type_url == CDS])


def test_reconnected_client_keeps_clusters_until_it_told_its_routes() -> None:
    """Clusters that went out of use meanwhile are withdrawn after the client has told which routes it has, and has new ones."""
    old = [*cluster("a"), routes("r", "a")]
    new = [*cluster("b"), routes("r", "b")]
    stream = reconnected(*new, had=old)
    assert stream.sends() == ["cds b"]
    stream.asks(EDS, "a", "b", initial=old[1:2]).asks(RDS, "r", initial=old[2:])
    assert stream.sends() == ["eds b"]
    assert stream.answers(CDS) == ["rds r"]
    assert stream.answers(RDS) == ["cds -a"]
    assert stream.answers(CDS) == ["eds -a"]


def test_reconnected_client_with_what_is_current_is_sent_nothing() -> None:
    """To a client that has everything only the wildcard's empty answers go."""
    has = [*cluster("a"), routes("r", "a"), scope("s", "a"), resource(LDS, "l")]
    stream = reconnected(*has, had=has)
    stream.asks(EDS, "a", initial=[has[1]]).asks(LDS, initial=[has[4]]).asks(SRDS, initial=[has[3]])
    stream.asks(RDS, "r", initial=[has[2]])
    assert stream.sends() == ["cds", "lds", "srds"]
    assert stream.settles().publishes(routes("r", "a", content="weights")) == ["rds r"]


def test_reconnected_while_warming() -> None:
    """A client that asks for endpoints before clusters is warming some: it is sent those endpoints, and routes wait."""
    has = [*cluster("a"), routes("r", "a")]
    stream = Stream(*cluster("a"), *cluster("b"), routes("r", "b"))
    stream.asks(EDS, "a", initial=[has[1]]).asks(RDS, "r", initial=[has[2]])
    assert stream.sends() == ["eds a"]
    assert stream.session.missing((RDS, "r")) == {"b"}
    stream.asks(CDS, initial=[has[0]])
    assert stream.sends() == ["cds b"]
    assert stream.answers(CDS) == ["rds r"]


def test_cluster_changed_while_away_brings_its_endpoints() -> None:
    """A cluster sent before the client has asked for endpoints brings its endpoints, although the client has them."""
    a, endpoints = cluster("a")
    stream = reconnected(resource(CDS, "a", "2"), endpoints, had=[a])
    assert stream.sends() == ["cds a"]
    assert stream.asks(EDS, "a", initial=[endpoints]).sends() == ["eds a"]


def test_resumed_complete_types_are_sent_complete_or_not_at_all() -> None:
    """In the state of the world a reconnected client would delete a scope that is left out, so all wait for the last."""
    stream = Stream(*cluster("a"), *cluster("b"), scope("s", "a"), scope("t", "b"), variant=Variant.SOTW)
    stream.asks(CDS, version="1").asks(SRDS, version="1")
    assert stream.sends() == ["cds a b"]
    assert stream.answers() == ["srds s t"]


def test_resumed_complete_type_of_which_nothing_is_left() -> None:
    """In the state of the world a reconnected client is told that there are no scopes any more."""
    stream = Stream(*cluster("a"), scope("s", "a"), variant=Variant.SOTW)
    stream.asks(CDS, version="1").asks(SRDS, version="1")
    stream.sends()
    assert stream.publishes(removed=[(SRDS, "s")]) == ["srds"]


def test_a_grpc_client_waits_for_nothing() -> None:
    """A client that has not asked for all clusters is sent routes at once."""
    stream = Stream(*cluster("a"), routes("r", "a"), agent=Node("client", "", "gRPC Python"))
    assert stream.asks(RDS, "r").sends() == ["rds r"]
    assert stream.asks(CDS, "a").sends() == ["cds a"]
    assert stream.publishes(routes("r", "elsewhere")) == ["rds r"]
