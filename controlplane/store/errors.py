"""The ways in which a write or a read can be refused by the store itself."""

from __future__ import annotations


class StoreUnavailableError(Exception):
    """The database cannot answer now (away, locked, full); its words are for the user and hold no credentials."""


class DeposedError(StoreUnavailableError):
    """Another control plane acts; what this one wanted to write is not written."""

    def __init__(self) -> None:
        super().__init__("Another control plane has taken over from the one that was asked; send this again.")


class StoreUnusableError(StoreUnavailableError):
    """The database cannot be used at all, and waiting would not help: the URL, the driver or the tables are wrong."""


class StaleWriteError(Exception):
    """The endpoint was changed or deleted since the value that this write was made from was read."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"endpoint {name!r} was changed or deleted by somebody else in the meantime")
