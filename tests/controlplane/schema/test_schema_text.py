"""Bytes to JSON objects: what is accepted, and where the errors point."""

from __future__ import annotations

import pytest

from controlplane.domain import ProblemCode, ProblemError
from controlplane.schema.text import canonical, kind, read_object

MISSING_COMMA = b"""{
  "name": "e",
  "config": {
    "served_entities": []
    "traffic_config": {}
  }
}"""


def refusal(body: bytes) -> str:
    """The message with which `body` is refused."""
    with pytest.raises(ProblemError) as caught:
        read_object(body)
    assert caught.value.code is ProblemCode.BAD_REQUEST
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (MISSING_COMMA, "The body is not valid JSON: line 5 column 5: expecting ',' delimiter."),
        (b'{"a": 1,}', "line 1 column 9: expecting property name enclosed in double quotes."),
        (b'{"a": }', "line 1 column 7: expecting value."),
        (b'{"a": 1} x', "line 1 column 10: extra data."),
        (b'{"a": "b', "line 1 column 7: unterminated string starting at."),
        (b"{'a': 1}", "line 1 column 2: expecting property name enclosed in double quotes."),
        (b'{\n"a": "\xff"}', "line 2 column 7: not UTF-8 text."),
        ('{"ä": "'.encode() + b"\xff", "line 1 column 8: not UTF-8 text."),
        (b"", "The body is empty; send a JSON object."),
        (b" \n ", "The body is empty; send a JSON object."),
        (b"[]", "The body must be a JSON object, not an array."),
        (b"null", "The body must be a JSON object, not null."),
        (b"true", "The body must be a JSON object, not a boolean."),
        (b'"x"', "The body must be a JSON object, not a string."),
        (b'{"a": NaN}', "it contains NaN, which JSON does not have."),
        (b'{"a": -Infinity}', "it contains -Infinity, which JSON does not have."),
        (b'{"a": 1e999}', "the number 1e999, which is too large."),
        (b'{"a": 9223372036854775808}', "the number 9223372036854775808, which does not fit into 64 bits."),
        (b'{"a": ' + b"9" * 10_000 + b"}", "99…, which does not fit into 64 bits."),
        (b'{"a": "\\ud800"}', "half of a character"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 64 levels deep."),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested more than 64 levels deep."),
    ],
)
def test_what_is_no_json_object_is_refused_with_its_place(body: bytes, message: str) -> None:
    """A body that is not a JSON object is a BAD_REQUEST that says what is wrong, and at which line and column."""
    assert message in refusal(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 9223372036854775807, "b": -9223372036854775808}', {"a": 2**63 - 1, "b": -(2**63)}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a": 1.5e3}', {"a": 1500.0}),
    ],
)
def test_json_objects_are_read(body: bytes, value: object) -> None:
    """Any JSON object is read, with or without a byte order mark."""
    assert read_object(body) == value


def test_canonical_text_does_not_depend_on_order() -> None:
    """Equal values have the same canonical text."""
    assert canonical({"b": [1, "ä"], "a": None}) == canonical({"a": None, "b": [1, "ä"]}) == '{"a":null,"b":[1,"ä"]}'


def test_kinds_have_names() -> None:
    """Every kind of JSON value has a name with its article."""
    kinds = [kind(value) for value in (None, True, 1, 1.5, "", [], {})]
    assert kinds == ["null", "a boolean", "a number", "a number", "a string", "an array", "an object"]
