"""Whom an error text blames. PURE.

A NACK refuses a response, not a resource: of a response with several resources Envoy may have taken all but one, and
only its words say which. `Error adding/updating cluster(s) a: <why>, b: <why>` is the usual form.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_SEPARATORS = re.compile(r"[\s,;'\"()\[\]{}]+")


def blamed(message: str, candidates: Collection[str]) -> frozenset[str]:
    """Those of `candidates` that the text names as being at fault; empty when it names none."""
    tokens = [token for token in _SEPARATORS.split(message) if token]
    # `name:` is how Envoy introduces a reason; a bare word might be prose that happens to equal a name.
    introduced = {token[:-1] for token in tokens if token.endswith(":")}
    named = introduced.intersection(candidates)
    if not named:
        named = {token.rstrip(":.") for token in tokens}.intersection(candidates)
    return frozenset(named)
