"""How a full disk is told from other trouble: there may be room another time, and the user can make some. Pure."""

from __future__ import annotations

import errno
import re

_WORDS = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


def is_full(error: OSError) -> bool:
    """Whether this is what the kernel says of a disk without room."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def says_full(words: str) -> bool:
    """Whether another program's words say so."""
    return _WORDS.search(words) is not None
