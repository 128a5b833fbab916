"""The duty to act: one at a time, by the database's clock, and what was fenced stays outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from controlplane.rollout import lifecycle
from controlplane.store import DeposedError, Lease, Peer, Store, StoreUnavailableError
from tests.postgresql import PostgreSQL


@pytest.fixture
def shared(postgresql: PostgreSQL) -> Iterator[tuple[Store, Store]]:
    """Two control planes' views of one database."""
    url = postgresql.new_database()
    with Store(url) as one, Store(url) as other:
        yield one, other


@pytest.fixture(autouse=True)
def nothing_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease ends when the test says so (`expire`), not while the machine runs something else."""
    monkeypatch.setattr("controlplane.store.lease.TTL", 3600.0)
    monkeypatch.setattr("controlplane.store.lease._LONGEST_PAUSE_MS", 3_600_000)


def lease(store: Store, name: str) -> Lease:
    """The lease as the control plane of that name sees it."""
    return Lease(store, Peer(name, f"unix:/{name}/xds", f"unix:/{name}/api", "k"))


def expire(store: Store) -> None:
    """Let the time pass after which a lease that nobody renews is free."""
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE duty SET expires = 0"))


def test_one_acts_and_the_other_knows_whom_to_ask(shared: tuple[Store, Store]) -> None:
    """The first to come has the lease; a release hands it over at once, under a new epoch."""
    a, b = lease(shared[0], "a"), lease(shared[1], "b")
    first = a.beat()
    assert (first.epoch, first.acting and first.acting.name) == (1, "a")
    seen = b.beat()
    assert b.epoch is None
    assert seen.acting == Peer("a", "unix:/a/xds", "unix:/a/api", "k")
    assert [peer.name for peer in seen.peers] == ["a", "b"]
    a.release()
    taken = b.beat()
    assert (b.epoch, taken.acting and taken.acting.name, [peer.name for peer in taken.peers]) == (2, "b", ["b"])


def test_who_stood_still_together_with_everybody_goes_on(shared: tuple[Store, Store]) -> None:
    """A lease that has run out is taken at the second look only, so that its holder may renew it when the machine goes on."""
    a, b = lease(shared[0], "a"), lease(shared[1], "b")

    def stand_still() -> None:
        with shared[0].engine.begin() as connection:
            connection.execute(text("UPDATE duty SET expires = 1"))

    a.beat()
    for _ in range(2):
        stand_still()
        b.beat()
        a.beat()
        b.beat()
    assert (a.epoch, b.epoch) == (1, None)
    stand_still()
    b.beat()
    assert b.beat().epoch == b.epoch == 2


def test_who_was_overtaken_writes_nothing_more(shared: tuple[Store, Store]) -> None:
    """However late it comes and whatever it believes: its writes are refused, and so is its renewal."""
    a, b = lease(shared[0], "a"), lease(shared[1], "b")
    shared[0].fence, shared[1].fence = a.fence, b.fence
    a.beat()
    endpoint = lifecycle.create(endpoint_id="1", name="e", creator="me", now_ms=1)
    shared[0].insert(endpoint)
    with pytest.raises(DeposedError):
        shared[1].delete("1")  # it stands by
    expire(shared[0])
    a.beat()  # nobody has taken it: nothing has happened
    expire(shared[0])
    b.beat()
    for write in (lambda: shared[0].delete("1"), a.beat, lambda: a.note_envoys({"e"}, set())):
        with pytest.raises(DeposedError):
            write()
    assert shared[1].endpoints() == [endpoint]
    shared[1].delete("1")


def test_a_takeover_waits_for_a_write_but_not_for_ever(
    shared: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write under way is finished before the duty moves; one whose writer has stopped is broken off."""
    monkeypatch.setattr("controlplane.store.lease._LONGEST_PAUSE_MS", 1500)
    a, b = lease(shared[0], "a"), lease(shared[1], "b")
    shared[0].fence = a.fence
    a.beat()
    expire(shared[0])
    begun, ended = threading.Event(), threading.Event()

    def taker() -> None:
        begun.wait()
        b.beat()
        ended.set()

    thread = threading.Thread(target=taker)
    thread.start()

    def stuck() -> None:
        with shared[0].writing() as connection:
            begun.set()
            assert ended.wait(30)
            connection.execute(text("SELECT 1"))

    with pytest.raises(StoreUnavailableError):
        stuck()
    thread.join()
    assert b.epoch == 2


def test_an_epoch_is_above_what_others_have_seen(shared: tuple[Store, Store]) -> None:
    """A worker host that outlived a database that was made anew has seen greater ones."""
    a = lease(shared[0], "a")
    a.beat()
    assert a.beat(above=7).epoch == 8
    assert a.beat(above=7).epoch == 8
    assert a.beat().epoch == 8


def test_known_envoys_are_handed_on(shared: tuple[Store, Store]) -> None:
    """Who takes over knows which Envoys there were."""
    a, b = lease(shared[0], "a"), lease(shared[1], "b")
    a.beat()
    a.note_envoys({"one", "two"}, set())
    a.note_envoys({"two"}, {"one"})
    assert b.known_envoys() == {"two"}
