"""What the page needs besides the API; built in `app.py`, or by a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Flask

from controlplane.clock import Clock
from controlplane.domain import Replica
from controlplane.keys import Signer
from controlplane.load_history import LoadHistory
from controlplane.rollout.state import Published
from controlplane.store import Endpoints, Tokens


@dataclass(frozen=True, slots=True)
class SignIn:
    """What it takes to know a token."""

    signer: Signer = field(repr=False)
    tokens: Tokens
    #: The cookie that Envoy looks for the token in.
    cookie: str


def _nothing_published(_endpoint_id: str) -> Published | None:
    return None


def _no_replicas(_endpoint_id: str) -> tuple[Replica, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class PageDeps:
    """Everything the page reads and calls."""

    #: The API, which is asked in process.
    api: Flask
    endpoints: Endpoints
    clock: Clock
    history: LoadHistory
    #: Makes the secret of forms; the same after a restart, so that a page that was open before it can still be sent.
    form_key: bytes = field(repr=False)
    replicas_of: Callable[[str], tuple[Replica, ...]] = _no_replicas
    #: What was last published of an endpoint, by its id, and who has not acknowledged it.
    published: Callable[[str], Published | None] = _nothing_published
    #: None: there are no tokens, and everybody is the admin.
    sign_in: SignIn | None = None
