"""The API on a socket: waitress, on threads of its own."""

from __future__ import annotations

from typing import Protocol

from flask import Flask

from controlplane.domain import Address


class Server(Protocol):
    """A server that listens."""

    @property
    def address(self) -> Address:
        """Where it listens; a port that was asked for as 0 is the one it got."""

    def close(self) -> None:
        """Stop listening, and return once the requests in hand are answered."""


def serve(app: Flask, address: Address, threads: int = 8) -> Server:
    """Serve `app` on `address`; it listens when this returns."""
    raise NotImplementedError
