"""Which clusters a client may be using, between sending routes and their ACK."""

from __future__ import annotations

from controlplane.discovery.references import References

ROUTE = ("routes", "r")
OTHER = ("routes", "other")
A, B = frozenset({"a"}), frozenset({"b"})


def test_both_versions_count_until_the_ack() -> None:
    """Old and new version count; the ACK of the new one frees what only the old one referred to."""
    references = References()
    references.sent(ROUTE, 1, A)
    references.acked(ROUTE, 1)
    references.sent(ROUTE, 2, B)
    assert references.take_freed() == frozenset()
    assert references.is_used("a")
    assert references.is_used("b")
    references.acked(ROUTE, 2)
    assert references.take_freed() == A
    assert not references.is_used("a")


def test_ack_of_an_older_version() -> None:
    """The ACK of a version leaves what was sent after it."""
    references = References()
    for number, refs in enumerate((A, B, A), start=1):
        references.sent(ROUTE, number, refs)
    references.acked(ROUTE, 2)
    assert references.take_freed() == frozenset()
    assert references.is_used("a")
    references.acked(ROUTE, 3)
    assert references.take_freed() == B


def test_refused_version_does_not_count() -> None:
    """A refused version frees what it alone referred to; the one before goes on counting."""
    references = References()
    references.sent(ROUTE, 1, A)
    references.sent(ROUTE, 2, B)
    references.rejected(ROUTE, 2)
    assert references.take_freed() == B
    assert references.is_used("a")


def test_removal_counts_as_a_version() -> None:
    """A removed route counts until its removal is acknowledged."""
    references = References()
    references.sent(ROUTE, 1, A)
    references.sent(ROUTE, 2, frozenset())
    assert references.is_used("a")
    references.acked(ROUTE, 2)
    assert references.take_freed() == A


def test_two_users_of_one_cluster() -> None:
    """A cluster is free when the last that refers to it is gone."""
    references = References()
    references.sent(ROUTE, 1, A)
    references.sent(OTHER, 2, A)
    references.gone(ROUTE)
    assert references.take_freed() == frozenset()
    references.gone(OTHER)
    assert references.take_freed() == A
    assert references.take_freed() == frozenset(), "told once"


def test_unknown_versions_hold_everything() -> None:
    """While the client has something in a version we do not know, every cluster may be in use; then any may be free."""
    references = References()
    references.brought(ROUTE, None)
    references.brought(OTHER, None)
    assert references.is_used("any")
    references.sent(ROUTE, 1, A)
    references.acked(ROUTE, 1)
    assert references.take_freed() == frozenset()
    references.gone(OTHER)
    assert references.take_freed() is None
    assert not references.is_used("any")


def test_same_bytes_other_references() -> None:
    """A scope may lead to other clusters without a new version: the latest references replace those it had."""
    references = References()
    references.sent(ROUTE, 1, A)
    references.replace(ROUTE, B)
    assert references.take_freed() == A
    references.replace(ROUTE, B)
    assert references.take_freed() == frozenset()
    assert references.is_used("b")
