"""What happens when the database is at fault: one exception, plain words, no credentials, nothing half done."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError

from controlplane.domain import Endpoint
from controlplane.rollout import lifecycle
from controlplane.store import Store, StoreUnavailableError
from controlplane.store.database import open_database, plain_words

#: Stores endpoint after endpoint, and says which one is stored.
WRITER = """
import sys
from controlplane.rollout import lifecycle
from controlplane.store import Store
with Store(sys.argv[1]) as store:
    for number in range(1_000_000):
        store.insert(lifecycle.create(endpoint_id=str(number), name=f"e{number}", creator="me", now_ms=1))
        print(number, flush=True)
"""


def endpoint(name: str = "e") -> Endpoint:
    """A new endpoint without a config."""
    return lifecycle.create(endpoint_id=name, name=name, creator="me", now_ms=1)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program that writes to the database and does not come to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_sqlite_keeps_what_was_answered(tmp_path: Path) -> None:
    """A process that is killed in the middle of its writes leaves everything it said was stored, and nothing broken."""
    url = f"sqlite:///{tmp_path}/wye.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        said += [int(line) for line in writer.stdout if line.endswith("\n")]
    with Store(url) as store:
        names = {stored.name for stored in store.endpoints()}
        assert {f"e{number}" for number in said} <= names
        store.insert(endpoint())
    with closing(sqlite3.connect(tmp_path / "wye.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_sqlite_is_opened_with_the_settings_that_are_relied_on(tmp_path: Path) -> None:
    """Write-ahead log, a sync for each commit, foreign keys."""
    engine = open_database(f"sqlite:///{tmp_path}/wye.db")
    with engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    engine.dispose()
    assert found == ["wal", 2, 1]


def test_a_locked_database_is_unavailable_for_writes_only(tmp_path: Path) -> None:
    """While another program writes, reads go on, and a write fails in plain words and can be made later."""
    path = tmp_path / "wye.db"
    with Store(f"sqlite:///{path}", wait_seconds=0.01) as store:
        with locked(path):
            assert store.endpoints() == []
            with pytest.raises(StoreUnavailableError, match=r"wye\.db is locked by another program"):
                store.insert(endpoint())
        store.insert(endpoint())
        assert store.get("e") == endpoint()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing/wye.db", None, "cannot be opened; its folder must exist"),
        ("wye.db", b"this is not a database, only some text", "is not an SQLite file"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    """A path that holds no database is refused at the start, with what to do about it."""
    if content is not None:
        (tmp_path / name).write_bytes(content * 100)
    with pytest.raises(StoreUnavailableError, match=words):
        Store(f"sqlite:///{tmp_path}/{name}")


def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    """Tables that this release does not know are not touched, and the words say what to do."""
    url = f"sqlite:///{tmp_path}/wye.db"
    Store(url).close()
    with closing(sqlite3.connect(tmp_path / "wye.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    with pytest.raises(StoreUnavailableError, match=r"wye\.db was made by a newer release"):
        Store(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "not a database URL"),
        ("oracle://x/y", "does not know oracle"),
        ("postgresql://wye:s3cret@/wye?host=/nonexistent", "does not answer"),
        ("postgres://wye:s3cret@127.0.0.1:1/wye", "does not answer"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_without_its_password(url: str, words: str) -> None:
    """The words name the address and what is wrong with it, and never the password."""
    with pytest.raises(StoreUnavailableError, match=words) as caught:
        Store(url, wait_seconds=1)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("database or disk is full", "its disk is full"),
        ("attempt to write a readonly database", "may only be read"),
        ("database disk image is malformed", "is damaged"),
        ("could not write to file: No space left on device", "its disk is full"),
        ("something\n\tnew for s3cret", "does not answer: something new for ***"),
    ],
)
def test_known_faults_have_plain_words(cause: str, words: str) -> None:
    """What a driver says becomes what a user can act on."""
    engine = create_engine("postgresql+psycopg://wye:s3cret@host/x")
    with pytest.raises(StoreUnavailableError) as caught, plain_words(engine):
        raise OperationalError("SELECT 1", None, sqlite3.OperationalError(cause))
    said = str(caught.value)
    assert words in said
    assert said.startswith("The database postgresql+psycopg://wye:***@host/x ")


def test_no_free_connection_is_unavailability_too() -> None:
    """When all connections stay busy for too long, that is the store's fault, not the caller's."""
    with pytest.raises(StoreUnavailableError), plain_words(create_engine("sqlite://")):
        raise NoFreeConnectionError


def test_mistakes_of_ours_are_not_called_unavailability() -> None:
    """A broken constraint is for the caller to handle."""
    with pytest.raises(IntegrityError), plain_words(create_engine("sqlite://")):
        raise IntegrityError("INSERT", None, sqlite3.IntegrityError("UNIQUE constraint failed"))
