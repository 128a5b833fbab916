"""The socket of one replica: the same address whatever process is behind it, and whatever host keeps it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from model_worker.keeping import Keeping
from model_worker.listeners import Listener, Listeners


class ReplicaSocket:
    """Listens from the first time that it is opened until it is closed; what comes while no process accepts waits."""

    def __init__(self, name: str, listeners: Listeners, keeping: Keeping) -> None:
        """`name` is unique among all replicas there ever were, and fit for a file name."""
        self._name = name
        self._listeners = listeners
        self._keeping = keeping
        self._listener: Listener | None = None
        self._let_go = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether somebody who connects can wait here."""
        return self._listener is not None

    def open(self) -> Listener:
        """Listen, if it does not yet.

        Raises ListenerError.
        """
        return self._listener or self._have(self._listeners.open(self._name))

    def again(self, address: Mapping[str, Any]) -> Listener:
        """Listen where a former host did, of which only the address is left.

        Raises ListenerError.
        """
        return self._have(self._listeners.again(address))

    def inherit(self, listener: socket.socket) -> Listener:
        """Listen with the very socket of a former host, and with all who wait in it."""
        return self._have(self._listeners.inherited(listener))

    def _have(self, listener: Listener) -> Listener:
        self._listener = listener
        self._keeping.keep(self._name, listener.socket)
        return listener

    async def wait(self) -> None:
        """Return when somebody connects, or when nobody is to be waited for any more (`let_go`, also if that was before)."""
        assert self._listener is not None
        loop, descriptor = asyncio.get_running_loop(), self._listener.socket.fileno()
        loop.add_reader(descriptor, self._let_go.set)
        try:
            await self._let_go.wait()
        finally:
            loop.remove_reader(descriptor)
            self._let_go.clear()

    def let_go(self) -> None:
        """Let nobody wait for somebody who connects."""
        self._let_go.set()

    def hide(self) -> None:
        """Let no new client find it, where that is possible, while those who wait stay."""
        if self._listener is not None:
            self._listener.hide()
        self.let_go()

    def close(self) -> None:
        """Refuse whoever comes, and whoever waits."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._keeping.drop(self._name)
