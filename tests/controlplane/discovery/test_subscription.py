"""What requests and answers do to one subscription, as tables of values."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from controlplane.discovery.delta import DeltaSubscription
from controlplane.discovery.messages import DeltaRequest, SotwRequest
from controlplane.discovery.sotw import SotwSubscription
from controlplane.discovery.subscription import MOST_IN_FLIGHT
from controlplane.translate.resource import Resource
from tests.controlplane.discovery.rig import CDS, EDS, resource

A, B, C = (resource(EDS, name) for name in "abc")
A2 = resource(EDS, "a", "2")
HAVE = {"a": A, "b": B, "c": C}


@dataclass(frozen=True)
class Case:
    """Delta requests, the last of which is looked at: what it makes due, and what the subscription is then."""

    requests: tuple[DeltaRequest, ...]
    wild: bool = False
    names: set[str] = field(default_factory=set)
    #: Names to be looked at, and among them those that go out even if the client has them.
    dirty: set[str] = field(default_factory=set)
    forced: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    owes_reply: bool = False


def delta(*subscribe: str, no: tuple[str, ...] = (), **more: object) -> DeltaRequest:
    """A delta request that subscribes to these names and unsubscribes from those in `no`."""
    return DeltaRequest(EDS, subscribe, no, **more)  # type: ignore[arg-type]


ALL = {"a", "b", "c"}
CASES = {
    "nothing named is everything": Case((delta(),), wild=True, dirty=ALL, owes_reply=True),
    "a star is everything": Case((delta("*"),), wild=True, dirty=ALL, owes_reply=True),
    "names are those names": Case((delta("a", "x"),), names={"a", "x"}, dirty={"a", "x"}),
    "an empty name is none": Case((delta("", "a"),), names={"a"}, dirty={"a"}),
    "a first request believes what the client has": Case((delta("a", initial={"a": A.version}),), names={"a"}),
    "a later one sends it again": Case((delta("a"), delta("a")), names={"a"}, dirty={"a"}, forced={"a"}),
    "a name beside everything": Case((delta(), delta("a")), wild=True, names={"a"}, dirty={"a"}, forced={"a"}),
    "everything, later": Case((delta("a"), delta("*")), wild=True, names={"a"}, dirty=ALL, forced=ALL, owes_reply=True),
    "a name is given up": Case((delta("a", "b"), delta(no=("a",))), names={"b"}, forgotten={"a"}),
    "a name that was never asked for is given up": Case((delta("a"), delta(no=("z",))), names={"a"}),
    "a name that everything covers is given up": Case(
        (delta("*", "a"), delta(no=("a",))), wild=True, dirty={"a"}, forced={"a"}, forgotten={"a"}
    ),
    "everything is given up": Case((delta("*", "a"), delta(no=("*",))), names={"a"}, forgotten={"b", "c"}),
    "one name for another": Case(
        (delta("a"), delta("b", no=("a",))), names={"b"}, dirty={"b"}, forced={"b"}, forgotten={"a"}
    ),
    "a nonce of long ago": Case((delta("a"), delta("b", nonce="?")), names={"a", "b"}, dirty={"b"}, forced={"b"}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_delta_request(case: Case) -> None:
    """Each delta request makes due what the rules say, nothing else, and forgets what the client gave up."""
    subscription = DeltaSubscription(EDS)
    for number, request in enumerate(case.requests):
        # All that was due has been sent.
        if number:
            send(subscription, *(HAVE[name] for name in subscription.dirty if name in HAVE))
        reaction = subscription.on_request(request, HAVE)
    assert (subscription.wild, subscription.names) == (case.wild, case.names)
    assert subscription.dirty == case.dirty
    assert subscription.forced & HAVE.keys() == case.forced
    assert reaction.forgotten == case.forgotten
    assert subscription.owes_reply == case.owes_reply


def send(subscription: DeltaSubscription | SotwSubscription, *puts: Resource, removed: tuple[str, ...] = ()) -> str:
    """Send these in one response; its nonce."""
    seq = len(SENT)
    SENT.append(None)
    subscription.dirty.clear()
    subscription.record(puts, removed, f"n{seq}", seq, seq)
    return f"n{seq}"


SENT: list[None] = [None]


def delta_to(*names: str) -> DeltaSubscription:
    """A subscription to these names, to which nothing has been sent."""
    subscription = DeltaSubscription(EDS)
    subscription.on_request(delta(*names), HAVE)
    return subscription


def test_known_at_once_acked_when_acked() -> None:
    """What was sent counts as known at once, for the next difference, and as acknowledged when it is."""
    subscription = delta_to("a", "b")
    nonce = send(subscription, A, B)
    assert subscription.known == {"a": A.version, "b": B.version}
    assert subscription.acked == {}
    settled = subscription.settle(nonce, None)
    assert settled is not None
    assert subscription.acked == {"a": A.version, "b": B.version}
    assert subscription.settle(nonce, None) is None, "an answer counts once"


def test_refused_alone() -> None:
    """What was refused alone is to blame, whatever the words; the client has what it had."""
    subscription = delta_to("a")
    subscription.settle(send(subscription, A), None)
    settled = subscription.settle(send(subscription, A2), "no words that name it")
    assert settled is not None
    assert settled.rejected == {"a": A2.version}
    assert subscription.known == subscription.acked == {"a": A.version}
    assert subscription.rejected == {"a": {A2.version}}


def test_refused_together() -> None:
    """Of several, the blamed one is rejected and the others are to be sent alone."""
    subscription = delta_to("a", "b", "c")
    settled = subscription.settle(send(subscription, A, B, C), "b: no")
    assert settled is not None
    assert settled.rejected == {"b": B.version}
    assert settled.unclear == {"a", "c"}
    assert list(subscription.alone) == ["a", "c"]
    assert subscription.acked == {}


def test_refused_together_but_overtaken() -> None:
    """What has been sent anew meanwhile needs no second try: the answer to the newer one tells."""
    subscription = delta_to("a", "b")
    nonce = send(subscription, A, B)
    send(subscription, A2)
    subscription.settle(nonce, "b: no")
    assert list(subscription.alone) == []
    assert subscription.known == {"a": A2.version}


def test_answer_to_what_was_given_up() -> None:
    """An ACK that comes after the name was given up, or taken up anew, says nothing about what the client has now."""
    subscription = delta_to("a", "b")
    nonce = send(subscription, A, B)
    subscription.on_request(delta(no=("a",)), HAVE)
    subscription.on_request(delta("a"), HAVE)
    subscription.settle(nonce, None)
    assert subscription.acked == {"b": B.version}


def test_answer_to_what_was_withdrawn() -> None:
    """An ACK of a version that has been withdrawn since does not make it count as in use."""
    subscription = delta_to("a")
    put, removal = send(subscription, A), send(subscription, removed=("a",))
    again = send(subscription, A)
    subscription.settle(put, None)
    assert subscription.acked == {}
    subscription.settle(removal, None)
    assert subscription.acked == {}
    subscription.settle(again, None)
    assert subscription.acked == {"a": A.version}


def test_gone_when_the_removal_is_acked() -> None:
    """A removed resource is gone when the client has said so."""
    subscription = delta_to("a")
    subscription.settle(send(subscription, A), None)
    nonce = send(subscription, removed=("a",))
    assert not subscription.is_gone("a")
    subscription.settle(nonce, None)
    assert subscription.is_gone("a")


def test_congestion() -> None:
    """With too many responses unanswered there is no work, until one of them is answered."""
    subscription = delta_to("a")
    nonces = [send(subscription, A) for _ in range(MOST_IN_FLIGHT)]
    subscription.touch("a")
    assert not subscription.has_work
    subscription.settle(nonces[0], None)
    assert subscription.has_work


def sotw(*names: str, nonce: str = "", error: str | None = None, version: str = "") -> SotwRequest:
    """A state-of-the-world request."""
    return SotwRequest(EDS, names, nonce, error, version=version)


SOTW_CASES = {
    "nothing named is everything": ((), True, ALL, set()),
    "a star is everything": (("*",), True, ALL, set()),
    "a star and a name": (("*", "a"), True, ALL, {"a"}),
    "names": (("a", "x"), False, {"a", "x"}, {"a", "x"}),
    "one empty name is none": (("",), False, set(), set()),
}


@pytest.mark.parametrize(("names", "wild", "dirty", "kept"), SOTW_CASES.values(), ids=SOTW_CASES.keys())
def test_sotw_first_request(names: tuple[str, ...], wild: bool, dirty: set[str], kept: set[str]) -> None:
    """The first state-of-the-world request makes due what it names."""
    subscription = SotwSubscription(EDS)
    subscription.on_request(sotw(*names), HAVE)
    assert (subscription.wild, subscription.names, subscription.owes_reply) == (wild, kept, wild)
    assert subscription.dirty == dirty


def test_sotw_stale_answer_still_settles() -> None:
    """An answer to an overtaken response does not change the subscription, but what it says of that response counts."""
    subscription = SotwSubscription(EDS)
    subscription.on_request(sotw("a"), HAVE)
    first = send(subscription, A)
    second = send(subscription, A2)
    subscription.on_request(sotw("a", "b", nonce=first), HAVE)
    assert subscription.names == {"a"}
    assert subscription.acked == {"a": A.version}
    subscription.on_request(sotw("a", "b", nonce=second), HAVE)
    assert subscription.names == {"a", "b"}
    assert subscription.acked == {"a": A2.version}


def test_sotw_ack_covers_those_before() -> None:
    """A client may answer only the latest response; that covers the ones before."""
    subscription = SotwSubscription(EDS)
    subscription.on_request(sotw("a", "b"), HAVE)
    send(subscription, A)
    second = send(subscription, B)
    subscription.on_request(sotw("a", "b", nonce=second), HAVE)
    assert subscription.acked == {"a": A.version, "b": B.version}
    assert subscription.in_flight == {}


def test_sotw_complete_response_settles_what_changed_and_changed_back() -> None:
    """A resource that changed and changed back before any ACK ends as what the last response said."""
    a, a2, b = resource(CDS, "a"), resource(CDS, "a", "2"), resource(CDS, "b")
    subscription = SotwSubscription(CDS)
    subscription.on_request(SotwRequest(CDS), {})
    subscription.on_request(SotwRequest(CDS, nonce=send(subscription, a)), {})
    changed, back, more = send(subscription, a2), send(subscription, a), send(subscription, b)
    for nonce in (changed, back, more):
        subscription.on_request(SotwRequest(CDS, nonce=nonce), {})
    assert subscription.acked == {"a": a.version, "b": b.version}


def test_sotw_resumed_keeps_the_refused() -> None:
    """After a reconnect a refused cluster is told all the same: left out, the client would delete what it still has."""
    a, b = resource(CDS, "a", "bad"), resource(CDS, "b")
    subscription = SotwSubscription(CDS)
    subscription.on_request(SotwRequest(CDS, version="7"), {})
    nonce = send(subscription, a, b)
    reaction = subscription.on_request(SotwRequest(CDS, nonce=nonce, error="a: no"), {})
    assert not subscription.owes_reply
    assert reaction.settled[0].rejected == {"a": a.version}
    assert subscription.acked == {"b": b.version}, "Envoy takes what it does not name"
    content, _ = subscription.record([resource(CDS, "c")], [], "next", 99, 99)
    assert [each.name for each in content] == ["a", "b", "c"]
