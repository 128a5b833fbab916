"""What is known of a token once it was handed out. The token itself is nowhere kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """A token's metadata. `id` is in the token too, and opens nothing: tokens are signed."""

    id: str
    user: str
    groups: tuple[str, ...]
    comment: str
    #: Who asked for it.
    creator: str
    created_ms: int
    #: None: it never expires.
    expires_ms: int | None = None
    revoked_ms: int | None = None
