"""The cell of endpoints and the store behind it: never apart for longer than a write."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.domain import Endpoint, ProblemError
from controlplane.rollout import lifecycle
from controlplane.store import Endpoints, StaleWriteError, Store, StoreUnavailableError, insist
from controlplane.watch import WatchedMap


def endpoint(name: str = "e") -> Endpoint:
    """A new endpoint without a config."""
    return lifecycle.create(endpoint_id=f"id-of-{name}", name=name, creator="me", now_ms=1)


def described(before: Endpoint, description: str) -> Endpoint:
    """The endpoint's successor with another description."""
    return replace(before, description=description, revision=before.revision + 1)


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite."""
    with Store(f"sqlite:///{tmp_path}/wye.db") as opened:
        yield opened


def test_a_write_shows_in_store_and_cell(lite: Store) -> None:
    """When insert, save and delete return, both have it."""
    endpoints = Endpoints(lite, WatchedMap())
    endpoints.insert(endpoint())
    assert endpoints.get("e") == lite.get("e") == endpoint()
    endpoints.save(described(endpoint(), "x"))
    assert endpoints.get("e") == lite.get("e") == described(endpoint(), "x")
    endpoints.delete(endpoint())
    assert endpoints.get("e") is lite.get("e") is None


def test_a_refused_write_leaves_the_cell_alone(lite: Store) -> None:
    """What the store does not take, nobody sees."""
    endpoints = Endpoints(lite, WatchedMap())
    endpoints.insert(endpoint())
    changes = endpoints.cell.changes
    with pytest.raises(ProblemError):
        endpoints.insert(replace(endpoint(), id="another"))
    with pytest.raises(StaleWriteError):
        endpoints.save(endpoint())
    assert endpoints.cell.changes == changes


@pytest.mark.parametrize("made", [True, False])
def test_a_write_whose_outcome_is_unknown_is_looked_up(
    lite: Store, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    """The database went away at the commit: who wrote is told, and the cell shows what has become of it."""
    endpoints = Endpoints(lite, WatchedMap())
    endpoints.insert(endpoint("there"))
    away = [True]

    def broken(method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if made:
                method(*arguments)
            raise StoreUnavailableError("it is away")

        return call

    with monkeypatch.context() as patch:
        for name in ("insert", "delete"):
            patch.setattr(lite, name, broken(getattr(lite, name)))
        with pytest.raises(StoreUnavailableError):
            endpoints.insert(endpoint("new"))
        with pytest.raises(StoreUnavailableError):
            endpoints.delete(endpoint("there"))
    assert endpoints.in_doubt
    get = lite.get
    monkeypatch.setattr(lite, "get", lambda name: broken(get)(name) if away else get(name))
    with pytest.raises(StoreUnavailableError):
        endpoints.resolve()
    away.clear()
    endpoints.resolve()
    assert not endpoints.in_doubt
    assert (endpoints.get("new") is not None, endpoints.get("there") is None) == (made, made)


def test_what_must_be_read_is_read_when_the_database_answers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again and again, and the log says once who is waited for."""
    monkeypatch.setattr("controlplane.store.again.PAUSE", 0.001)
    answers = [StoreUnavailableError("it is away"), StoreUnavailableError("it is away"), 7]

    def read() -> object:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    assert asyncio.run(insist(read)) == 7
    assert [each.getMessage() for each in caplog.records] == ["waiting for the database: it is away"]


def test_load_shows_what_is_stored(lite: Store) -> None:
    """After a restart the cell has all endpoints."""
    lite.insert(endpoint("a"))
    lite.insert(endpoint("b"))
    endpoints = Endpoints(lite, WatchedMap())
    endpoints.load()
    assert sorted(endpoints.cell.snapshot()) == ["a", "b"]


def test_refresh_shows_what_others_wrote(lite: Store) -> None:
    """After a lost race the cell takes over the stored value, or its absence."""
    endpoints = Endpoints(lite, WatchedMap())
    endpoints.insert(endpoint())
    lite.save(described(endpoint(), "theirs"))
    assert endpoints.refresh("e") == endpoints.get("e") == described(endpoint(), "theirs")
    lite.delete(endpoint().id)
    assert endpoints.refresh("e") is None
    assert endpoints.get("e") is None


def test_the_deletion_of_a_predecessor_spares_its_successor(lite: Store) -> None:
    """An endpoint made anew under a name stays when the old one is deleted once more."""
    endpoints = Endpoints(lite, WatchedMap())
    successor = replace(endpoint(), id="new")
    endpoints.insert(successor)
    endpoints.delete(endpoint())
    assert endpoints.get("e") == lite.get("e") == successor


def test_concurrent_writers_leave_store_and_cell_equal(lite: Store) -> None:
    """Threads that save and delete the same endpoints at once: at the end the cell shows exactly what is stored."""
    endpoints = Endpoints(lite, WatchedMap())
    names = [f"e{number}" for number in range(5)]
    for name in names:
        endpoints.insert(endpoint(name))

    def write(who: int) -> None:
        for round_ in range(10):
            for name in names:
                present = endpoints.get(name)
                if present is None:
                    continue
                try:
                    if (who, round_) == (0, 7):
                        endpoints.delete(present)
                    else:
                        endpoints.save(described(present, f"{who} {round_}"))
                except StaleWriteError:
                    endpoints.refresh(name)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert endpoints.cell.snapshot() == {stored.name: stored for stored in lite.endpoints()}
