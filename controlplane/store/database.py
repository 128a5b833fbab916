"""Opening a database: which driver, which settings, which tables; and its failures in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError

from controlplane.store.errors import StoreUnavailableError, StoreUnusableError

#: How long a writer waits for another process's write on SQLite, and anyone for a connection to PostgreSQL.
WAIT_SECONDS = 5.0

#: Any number that other programs on the same database do not use.
_MIGRATION_LOCK = 0x7779_6501

_MIGRATIONS = Path(__file__).with_name("migrations")

_SQLITE_SETTINGS = (
    "PRAGMA journal_mode=WAL",
    # FULL, not NORMAL: both survive a power cut uncorrupted, but NORMAL may forget the last commits, and a client that
    # was told IN_PROGRESS would then read NOT_UPDATING and take the update for done. It costs one fsync per write.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
)

#: A network that is gone without a trace is noticed within some 15 s: libpq waits for ever unless it is told otherwise.
_NETWORK = {"keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3, "tcp_user_timeout": 15_000}


def open_database(url: str, wait_seconds: float = WAIT_SECONDS) -> Engine:
    """An engine on a database that is reachable and has this release's tables.

    Raises StoreUnavailableError when the URL makes no sense or the database does not answer.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreUnusableError(
            "The store's URL is not a database URL; give one such as sqlite:////var/lib/wye/wye.db "
            "or postgresql://user@host/wye."
        ) from None
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite(parsed, wait_seconds)
    elif parsed.drivername == "postgresql+psycopg":
        engine = _postgresql(parsed, wait_seconds)
    else:
        raise StoreUnusableError(f"The store does not know {parsed.drivername}; use sqlite:///… or postgresql://….")
    try:
        with plain_words(engine):
            migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def migrate(engine: Engine) -> None:
    """Bring the tables to this release's form, in one transaction; raises StoreUnusableError when they are ahead of it."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Control planes that start at the same time take turns.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        if _revision(connection) != _newest():
            _upgrade(connection)


def _newest() -> str:
    """The revision of this release: the digits that its last migration's file begins with, after a v."""
    return max(path.name for path in (_MIGRATIONS / "versions").glob("v*.py"))[1:5]


def _revision(connection: Connection) -> str | None:
    """What the tables are at; None where there are none."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # Imported here: it takes a tenth of a start's processor time, and most starts have nothing to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise StoreUnusableError(
            f"The database {_where(connection.engine.url)} was made by a newer release of Wye; "
            "run that release, or another database."
        ) from None


@contextmanager
def plain_words(engine: Engine) -> Iterator[None]:
    """Turns what a driver raises when the database is at fault into StoreUnavailableError."""
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise  # ours: the caller's to handle, or a bug to see
    except (DBAPIError, NoFreeConnectionError) as error:
        raise StoreUnavailableError(_words(error, engine.url)) from error


def _sqlite(url: URL, wait_seconds: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": wait_seconds})

    @event.listens_for(engine, "connect")
    def settings(connection: Any, _record: Any) -> None:
        # Python's sqlite3 begins transactions by its own rules and commits before DDL; autocommit and the BEGIN below
        # leave that to SQLAlchemy, so that a migration is one transaction here as well.
        connection.isolation_level = None
        for statement in _SQLITE_SETTINGS:
            connection.execute(statement)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _postgresql(url: URL, wait_seconds: float) -> Engine:
    try:
        return create_engine(
            url,
            pool_pre_ping=True,  # a restarted server costs no failed request
            pool_timeout=wait_seconds,
            connect_args={"connect_timeout": max(2, round(wait_seconds)), **_NETWORK},
        )
    except ModuleNotFoundError:
        raise StoreUnusableError(
            "PostgreSQL needs the package psycopg; install it with: pip install 'psycopg[binary]'"
        ) from None


def _where(url: URL) -> str:
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def _words(error: Exception, url: URL) -> str:
    """What happened, without the URL's password."""
    where = _where(url)
    cause = str(getattr(error, "orig", None) or error).strip()
    if url.password:
        cause = cause.replace(str(url.password), "***")
    for sign, words in _KNOWN:
        if sign in cause:
            return f"The database {where} {words}."
    return f"The database {where} does not answer: {' '.join(cause.split())}"


_KNOWN = (
    ("database is locked", "is locked by another program; end that program, or wait for it"),
    ("database or disk is full", "cannot grow because its disk is full; free some space"),
    ("No space left on device", "cannot grow because its disk is full; free some space"),
    ("readonly database", "may only be read; make its file and folder writable for this user"),
    ("unable to open database file", "cannot be opened; its folder must exist and be writable for this user"),
    ("file is not a database", "is not an SQLite file; give another path, or restore it from a copy"),
    ("disk image is malformed", "is damaged; restore it from a copy"),
)
