"""Whom Envoy's words blame."""

from __future__ import annotations

import pytest

from controlplane.discovery.refusal import blamed


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Error adding/updating cluster(s) a: no such thing", {"a"}),
        ("Error adding/updating cluster(s) a: no such thing, b: c is bad", {"a", "b"}),
        ("Error adding/updating listener(s) b: address in use\na: same", {"a", "b"}),
        ("Error adding/updating cluster(s) e/m-1@3: bad", {"e/m-1@3"}),
        ("route: unknown cluster 'b'", {"b"}),
        ("Proto constraint validation failed (ClusterValidationError.ConnectTimeout)", set()),
        ("", set()),
    ],
    ids=["one", "two", "lines", "our names", "only a quotation", "nobody", "nothing"],
)
def test_blamed(message: str, expected: set[str]) -> None:
    """Names that introduce a reason are blamed; failing these, names that are mentioned; failing these, nobody."""
    assert blamed(message, {"a", "b", "c", "e/m-1@3"}) == expected


def test_a_word_that_is_also_a_name() -> None:
    """A resource called like a word of the message is not blamed when another is introduced as being at fault."""
    assert blamed("Error adding/updating cluster(s) x: bad", {"x", "Error", "bad"}) == {"x"}
