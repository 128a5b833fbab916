"""The store: endpoints and their config versions in a database, written by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine, delete, exists, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from controlplane.domain import Endpoint, PastConfig, Problem, ProblemCode, ProblemError, UpdateState
from controlplane.domain.measurement import LogKind
from controlplane.store.codec import decode_config, decode_endpoint, encode_config, encode_endpoint
from controlplane.store.database import WAIT_SECONDS, open_database, plain_words
from controlplane.store.errors import StaleWriteError
from controlplane.store.tables import config_versions, endpoints, kept_logs

#: Of how many failed versions an endpoint's logs are kept.
KEPT_FAILURES = 20


class Store:
    """Endpoints and config versions in the database at `url`; what a call wrote is on disk when it returns.

    Safe to use from any thread. Every call may raise StoreUnavailableError, and then has changed nothing, unless the
    connection broke in the very moment of the commit.
    """

    def __init__(self, url: str, wait_seconds: float = WAIT_SECONDS) -> None:
        self._engine = open_database(url, wait_seconds)
        #: Raises DeposedError in a transaction that this program may not make (any more); None: it is alone.
        self.fence: Callable[[Connection], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that changes something, if whoever acts may: `fence` has the last word, within it.

        Raises StoreUnavailableError.
        """
        with plain_words(self._engine), self._engine.begin() as connection:
            if self.fence is not None:
                self.fence(connection)
            yield connection

    @property
    def is_shared(self) -> bool:
        """Whether other control planes may be on the same database: not on a file."""
        return self._engine.dialect.name == "postgresql"

    @property
    def engine(self) -> Engine:
        """The database, for what is kept beside endpoints (`Tokens`, `Secrets`)."""
        return self._engine

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, by name."""
        with plain_words(self._engine), self._engine.connect() as connection:
            rows = connection.execute(select(endpoints.c.document).order_by(endpoints.c.name)).all()
        return [decode_endpoint(document) for (document,) in rows]

    def get(self, name: str) -> Endpoint | None:
        """The endpoint of that name as it is stored, or None."""
        with plain_words(self._engine), self._engine.connect() as connection:
            document = connection.execute(select(endpoints.c.document).where(endpoints.c.name == name)).scalar()
        return None if document is None else decode_endpoint(document)

    def insert(self, endpoint: Endpoint) -> None:
        """Store a new endpoint; raises ProblemError (RESOURCE_ALREADY_EXISTS) when its name is taken."""
        row = {
            "id": endpoint.id,
            "name": endpoint.name,
            "revision": endpoint.revision,
            "document": encode_endpoint(endpoint),
        }
        try:
            with self.writing() as connection:
                connection.execute(insert(endpoints).values(row))
                _keep_version(connection, endpoint)
        except IntegrityError as error:
            raise name_taken(endpoint.name) from error

    def save(self, endpoint: Endpoint) -> None:
        """Replace the stored endpoint by its successor; a pending config's version is kept in the same transaction.

        Raises StaleWriteError unless the stored revision is the one before `endpoint.revision`.
        """
        statement = (
            update(endpoints)
            .where(endpoints.c.id == endpoint.id, endpoints.c.revision == endpoint.revision - 1)
            .values(revision=endpoint.revision, document=encode_endpoint(endpoint))
        )
        with self.writing() as connection:
            if connection.execute(statement).rowcount != 1:
                raise StaleWriteError(endpoint.name)
            _keep_version(connection, endpoint)

    def delete(self, endpoint_id: str) -> None:
        """Remove an endpoint and all its config versions; one that is not there is no error."""
        with self.writing() as connection:
            connection.execute(delete(endpoints).where(endpoints.c.id == endpoint_id))

    def history(self, endpoint_id: str) -> list[PastConfig]:
        """Every config version that was ever accepted for the endpoint, oldest first."""
        table = config_versions.c
        statement = (
            select(table.document, table.result, table.ended_ms)
            .where(table.endpoint_id == endpoint_id)
            .order_by(table.version)
        )
        with plain_words(self._engine), self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        return [
            PastConfig(decode_config(document), UpdateState(result or UpdateState.NOT_UPDATING), ended_ms)
            for document, result, ended_ms in rows
        ]

    def keep_logs(self, endpoint_id: str, version: int, logs: Mapping[tuple[str, LogKind], str]) -> None:
        """Keep what there is to read of each served entity of a failed version.

        Of an endpoint the latest KEPT_FAILURES versions are kept; one that is gone keeps nothing. What is kept once
        stays as it is.
        """
        table = kept_logs.c
        with self.writing() as connection:
            for (entity, kind), text in logs.items():
                there = exists().where(endpoints.c.id == endpoint_id)
                this = (table.endpoint_id == endpoint_id, table.version == version)
                new = ~exists().where(*this, table.entity == entity, table.kind == kind.value)
                values = (endpoint_id, version, entity, kind.value, text.replace(chr(0), ""))
                row = select(*map(literal, values)).where(there, new)
                names = ["endpoint_id", "version", "entity", "kind", "text"]
                connection.execute(insert(kept_logs).from_select(names, row))
            kept = (
                select(table.version)
                .where(table.endpoint_id == endpoint_id)
                .distinct()
                .order_by(table.version.desc())
                .limit(KEPT_FAILURES)
            )
            connection.execute(
                delete(kept_logs).where(table.endpoint_id == endpoint_id, table.version.not_in(kept.scalar_subquery()))
            )

    def kept_log(self, endpoint_id: str, version: int, entity: str, kind: LogKind) -> str | None:
        """What was kept of a served entity of a version that failed, or None."""
        table = kept_logs.c
        statement = select(table.text).where(
            table.endpoint_id == endpoint_id,
            table.version == version,
            table.entity == entity,
            table.kind == kind.value,
        )
        with plain_words(self._engine), self._engine.connect() as connection:
            return connection.execute(statement).scalar()


def name_taken(name: str) -> ProblemError:
    """What a second endpoint of the same name is refused with."""
    return ProblemError(
        Problem(
            "name",
            ProblemCode.RESOURCE_ALREADY_EXISTS,
            f"an endpoint named {name!r} exists already; update it, delete it, or choose another name",
        )
    )


def _keep_version(connection: Connection, endpoint: Endpoint) -> None:
    """Add the pending config to the history, or note how it ended; its endpoint's row is locked by this transaction."""
    table = config_versions.c
    config = endpoint.pending or endpoint.active
    if config is None:
        return
    this = (table.endpoint_id == endpoint.id, table.version == config.version)
    if endpoint.update is not UpdateState.IN_PROGRESS:
        result = {"result": endpoint.update.value, "ended_ms": endpoint.updated_ms}
        unended = table.result == UpdateState.IN_PROGRESS.value
        connection.execute(update(config_versions).where(*this, unended).values(result))
        return
    row = select(
        literal(endpoint.id),
        literal(config.version),
        literal(encode_config(config)),
        literal(UpdateState.IN_PROGRESS.value),
    ).where(~exists().where(*this))
    connection.execute(insert(config_versions).from_select(["endpoint_id", "version", "document", "result"], row))
