"""What an exception has to say to somebody who will not see its traceback."""

from __future__ import annotations

import traceback

#: Longer words help nobody.
_MAX_WORDS = 4000


def last_words(error: BaseException) -> str:
    """An exception's own words, and those of what caused it if they say more."""
    words = _own_words(error)
    cause: BaseException | None = error
    while cause is not None and (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    if cause is not None and cause is not error and (deepest := _own_words(cause)).partition(": ")[2] not in words:
        words = f"{words} (caused by {deepest})"
    # A name of a file that is not UTF-8 has halves of characters, which nobody could pass on.
    words = words.encode(errors="replace").decode()
    return words if len(words) <= _MAX_WORDS else words[:_MAX_WORDS] + " …"


def _own_words(error: BaseException) -> str:
    *_, last = traceback.format_exception_only(error)
    # The module of an exception class says nothing that its name does not.
    name, colon, rest = last.strip().partition(":")
    return name.rpartition(".")[2] + colon + rest
