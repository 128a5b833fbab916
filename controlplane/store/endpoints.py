"""Endpoints as the loops see them, kept equal to what is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.domain import Endpoint, ProblemError
from controlplane.store.errors import StoreUnavailableError
from controlplane.store.store import Store
from controlplane.watch import WatchedMap


class Endpoints:
    """The cell of all endpoints by name, and the one way to write to it: the store first, then the cell.

    When a write returns, the cell shows it. One lock orders the writers (API threads, supervisor), so the cell never
    goes back to an older value, and SQLite, which has one writer anyway, is never found busy.
    """

    def __init__(self, store: Store, cell: WatchedMap[str, Endpoint]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._doubtful: set[str] = set()
        self.cell = cell

    def load(self) -> None:
        """Show what is stored."""
        with self._lock:
            self.cell.replace({endpoint.name: endpoint for endpoint in self._store.endpoints()})

    def get(self, name: str) -> Endpoint | None:
        """The endpoint of that name, or None; never touches the database."""
        return self.cell.get(name)

    def insert(self, endpoint: Endpoint) -> None:
        """As `Store.insert`; when the name is taken, the cell shows by whom."""
        with self._writing(endpoint.name):
            try:
                self._store.insert(endpoint)
            except ProblemError:
                self._show_stored(endpoint.name)
                raise
            self.cell.set(endpoint.name, endpoint)

    def save(self, endpoint: Endpoint) -> None:
        """As `Store.save`."""
        with self._writing(endpoint.name):
            self._store.save(endpoint)
            self.cell.set(endpoint.name, endpoint)

    def delete(self, endpoint: Endpoint) -> None:
        """As `Store.delete`."""
        with self._writing(endpoint.name):
            self._store.delete(endpoint.id)
            present = self.cell.get(endpoint.name)
            if present is not None and present.id == endpoint.id:
                self.cell.delete(endpoint.name)

    @property
    def in_doubt(self) -> bool:
        """Whether the outcome of a write is unknown: the database went away before it had said that it was made, or not."""
        return bool(self._doubtful)

    def resolve(self) -> None:
        """Show what has become of those writes; raises StoreUnavailableError."""
        with self._lock:
            for name in tuple(self._doubtful):
                self._show_stored(name)
                self._doubtful.discard(name)

    def refresh(self, name: str) -> Endpoint | None:
        """Read one endpoint from the store again, after a StaleWriteError."""
        with self._lock:
            return self._show_stored(name)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except StoreUnavailableError:
                self._doubtful.add(name)
                raise

    def _show_stored(self, name: str) -> Endpoint | None:
        stored = self._store.get(name)
        if stored is None:
            self.cell.delete(name)
        else:
            self.cell.set(name, stored)
        return stored
