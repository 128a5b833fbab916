"""What a host does again and again, and goes on doing whatever comes in between."""

from __future__ import annotations

import logging

_logger = logging.getLogger(__name__)


class Chore:
    """Something done again and again, `with` this each time: an error in it harms neither the next time nor anything else.

    An error is logged once, until the chore has been done without one.
    """

    def __init__(self, complaint: str) -> None:
        """`complaint`: what is said of an error, before its own words."""
        self._complaint = complaint
        self._fails = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        known, self._fails = self._fails, error is not None
        if not isinstance(error, Exception):
            return False
        if not known:
            # An OSError says all that there is to know; anything else is a mistake of ours.
            _logger.warning("%s: %s", self._complaint, error, exc_info=not isinstance(error, OSError))
        return True
