"""The bounds that each connection is kept in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may ask for, and how long it may take."""

    #: Bytes of a body.
    max_body: int
    #: Seconds without a request after which a connection is closed; above Envoy's own, so that Envoy closes first.
    keep_alive: float = 75.0
    #: Seconds within which a request's headers must have come.
    head: float = 20.0
    #: Seconds that a body may pause …
    pause: float = 30.0
    #: … and that a request may take in all to arrive.
    arrival: float = 300.0
    #: Seconds that a refused client may take to read why.
    farewell: float = 2.0
