"""The store on SQLite and on PostgreSQL: the same promises on both."""

from __future__ import annotations

import threading
from dataclasses import replace

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import make_url

from controlplane.domain import Endpoint, EntitySpec, Outcome, ProblemCode, ProblemError, TrafficRoute, UpdateState
from controlplane.domain.measurement import LogKind
from controlplane.rollout import lifecycle
from controlplane.store import StaleWriteError, Store
from controlplane.store.database import open_database
from controlplane.store.store import KEPT_FAILURES
from controlplane.store.tables import metadata

OUTPUT, BUILD = LogKind.OUTPUT, LogKind.BUILD
ARTIFACTS = {("m", "1"): "/m/1", ("m", "2"): "/m/2"}


def created(name: str = "e") -> Endpoint:
    """A new endpoint with its first config pending."""
    endpoint = lifecycle.create(endpoint_id=f"id-of-{name}", name=name, creator="me", now_ms=1)
    return updated(endpoint, 90)


def updated(endpoint: Endpoint, percent: int) -> Endpoint:
    """The endpoint with an update to this split in progress."""
    specs = [EntitySpec("a", "m", "1"), EntitySpec("b", "m", "2")]
    traffic = [TrafficRoute("a", percent), TrafficRoute("b", 100 - percent)]
    return lifecycle.begin_update(endpoint, specs, traffic, ARTIFACTS, creator="me", now_ms=2)


def test_what_is_inserted_is_there_for_the_next_process(url: str) -> None:
    """A store that is opened later has what an earlier one was given, sorted by name."""
    first, second = created("b"), created("a")
    with Store(url) as store:
        assert store.endpoints() == []
        store.insert(first)
        store.insert(second)
    with Store(url) as store:
        assert store.endpoints() == [second, first]
        assert store.get("b") == first
        assert store.get("c") is None


def test_a_name_is_taken_once(store: Store) -> None:
    """A second endpoint of the same name is refused, and the first one stays."""
    store.insert(created())
    with pytest.raises(ProblemError) as caught:
        store.insert(replace(created(), id="another"))
    assert caught.value.code is ProblemCode.RESOURCE_ALREADY_EXISTS
    assert "'e' exists already" in str(caught.value)
    assert [endpoint.id for endpoint in store.endpoints()] == ["id-of-e"]


def test_a_save_replaces_its_predecessor(store: Store) -> None:
    """The successor of what is stored is stored in its place."""
    endpoint = created()
    store.insert(endpoint)
    finished = lifecycle.succeed(endpoint, 3)
    store.save(finished)
    assert store.get("e") == finished


def test_a_save_from_an_older_value_is_refused(store: Store) -> None:
    """Of two successors of one value the second is refused and changes nothing."""
    endpoint = created()
    store.insert(endpoint)
    winner = lifecycle.succeed(endpoint, 3)
    store.save(winner)
    with pytest.raises(StaleWriteError):
        store.save(lifecycle.fail(endpoint, [Outcome("a", failed=True, message="x")], 4))
    assert store.get("e") == winner


def test_a_save_of_a_deleted_endpoint_is_refused(store: Store) -> None:
    """A late write does not bring a deleted endpoint back."""
    endpoint = created()
    store.insert(endpoint)
    store.delete(endpoint.id)
    with pytest.raises(StaleWriteError):
        store.save(lifecycle.succeed(endpoint, 3))
    assert store.endpoints() == []


def test_of_concurrent_saves_one_wins(url: str) -> None:
    """Threads that save successors of the same value: exactly one succeeds, whatever the database."""
    endpoint = created()
    barrier = threading.Barrier(8)
    results: list[str] = []

    def save(moment: int) -> None:
        barrier.wait()
        try:
            store.save(lifecycle.succeed(endpoint, moment))
            results.append("won")
        except StaleWriteError:
            results.append("lost")

    with Store(url) as store:
        store.insert(endpoint)
        threads = [threading.Thread(target=save, args=(moment,)) for moment in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == ["lost"] * 7 + ["won"]


def test_every_accepted_config_version_is_kept(store: Store) -> None:
    """The history has each config once, oldest first, also those that failed, whatever happens around them."""
    first = created()
    store.insert(first)
    live = lifecycle.succeed(first, 3)
    store.save(live)
    second = updated(live, 50)
    store.save(second)
    touched = replace(second, description="x", revision=second.revision + 1)
    store.save(touched)
    failed = lifecycle.fail(touched, [Outcome("a", failed=True, message="x")], 5)
    store.save(failed)
    third = updated(failed, 20)
    store.save(third)
    history = store.history(first.id)
    assert [past.config for past in history] == [first.pending, second.pending, third.pending]
    assert [(past.config.version, past.result, past.ended_ms) for past in history] == [
        (1, UpdateState.NOT_UPDATING, 3),
        (2, UpdateState.UPDATE_FAILED, 5),
        (3, UpdateState.IN_PROGRESS, None),
    ]


def test_the_logs_of_a_failed_version_are_kept(store: Store) -> None:
    """Per version and entity, the first text that was kept stays, of the latest versions, until the endpoint goes."""
    endpoint = created()
    store.insert(endpoint)
    store.keep_logs(endpoint.id, 1, {("a", BUILD): "uv", ("a", OUTPUT): "no module\0 named x", ("b", OUTPUT): ""})
    store.keep_logs(endpoint.id, 1, {("a", OUTPUT): "later"})
    store.keep_logs("absent", 1, {("a", OUTPUT): "x"})
    assert store.kept_log(endpoint.id, 1, "a", OUTPUT) == "no module named x"
    assert store.kept_log(endpoint.id, 1, "a", BUILD) == "uv"
    assert store.kept_log(endpoint.id, 1, "b", OUTPUT) == ""
    assert [store.kept_log(endpoint.id, 2, "a", OUTPUT), store.kept_log("absent", 1, "a", OUTPUT)] == [None, None]
    for version in range(2, KEPT_FAILURES + 2):
        store.keep_logs(endpoint.id, version, {("a", OUTPUT): "x"})
    assert [store.kept_log(endpoint.id, version, "a", OUTPUT) for version in (1, 2)] == [None, "x"]
    store.delete(endpoint.id)
    assert store.kept_log(endpoint.id, 2, "a", OUTPUT) is None


def test_the_history_goes_with_the_endpoint(store: Store) -> None:
    """A deleted endpoint leaves nothing, and deleting it again is no error; a new one of its name begins at nothing."""
    store.insert(created())
    store.delete("id-of-e")
    store.delete("id-of-e")
    assert store.history("id-of-e") == []
    store.insert(replace(created(), id="new"))
    assert len(store.history("new")) == 1


def test_an_endpoint_without_a_config_has_no_history(store: Store) -> None:
    """Nothing was accepted, so nothing is kept."""
    store.insert(lifecycle.create(endpoint_id="1", name="e", creator="me", now_ms=1))
    assert store.history("1") == []


def test_any_text_can_be_stored(store: Store) -> None:
    """NUL, quotes and characters of any script come back as they went in."""
    endpoint = replace(created(), description="\0 'x' \"y\" é 😀 \u2028", creator="o'\0")
    store.insert(endpoint)
    assert store.get("e") == endpoint


def test_the_migrations_make_the_tables_that_the_code_expects(url: str) -> None:
    """Alembic finds no difference between a migrated database and `tables.py`."""
    engine = open_database(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_restart_of_postgresql_costs_no_failed_call(url: str) -> None:
    """Connections that the server closed are replaced before they are used."""
    target = make_url(url)
    with Store(url) as store:
        store.insert(created())
        with psycopg.connect(f"host={target.query['host']} user=postgres dbname=postgres", autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [target.database]
            )
        assert store.get("e") == created()
