"""Groups as a text that Envoy can compare."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import groups_in, member, membership

NAMES = st.text(st.sampled_from("a,b% ü'\"\n") | st.characters(codec="utf-8"), min_size=1)
GROUPS = st.lists(NAMES, max_size=4).map(tuple)


@given(GROUPS, NAMES)
def test_a_group_is_found_in_a_membership_if_it_is_one_of_its_groups(groups: tuple[str, ...], name: str) -> None:
    """And only then, whatever characters are in its name and in theirs; a header can hold all of it."""
    line = membership(groups)
    assert (member(name) in line) == (name in groups)
    assert all(member(group) in line for group in groups)
    assert groups_in(line) == groups
    assert line.isascii()
    assert line.isprintable()
