"""The duty to act, of which one control plane at a time has the lease: the one row that decides, and who there is.

All times are the database's. Whoever has the lease has an epoch, which nobody had before; a write that is fenced with it
is not made once another has taken over, however late it comes and whatever its writer still believes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Float, cast, delete, extract, func, insert, or_, select, text, update

from controlplane.store.database import plain_words
from controlplane.store.errors import DeposedError
from controlplane.store.store import Store
from controlplane.store.tables import control_planes, duty, envoys

#: Seconds after its last renewal at which the lease is free for others, and after which a silent control plane counts as gone.
TTL = 3.0
#: Seconds after which one that was not heard of is forgotten.
_FORGOTTEN = 600.0
#: Milliseconds that a program may let a write wait before the database breaks it off.
_LONGEST_PAUSE_MS = 1500

_NOW = cast(extract("epoch", func.clock_timestamp()), Float)


@dataclass(frozen=True, slots=True)
class Peer:
    """A control plane on this database."""

    name: str
    #: Where Envoys and the others reach it.
    xds: str
    api: str
    #: Of what it signs and encrypts with; the same for all.
    keys: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """The control planes as the database has them now."""

    epoch: int
    #: Who has the lease; None when nobody has renewed it in time.
    acting: Peer | None
    #: All that were heard of lately, by name.
    peers: tuple[Peer, ...]


class Lease:
    """One control plane's part in the duty, on PostgreSQL. Safe to use from any thread, one call at a time."""

    def __init__(self, store: Store, me: Peer) -> None:
        self._engine = store.engine
        self._me = me
        #: The epoch of the lease that we have, or had until somebody took over; None before we ever had it.
        self.epoch: int | None = None
        #: The epoch whose lease had run out when it was last looked at; None when it had not.
        self._run_out: int | None = None

    def beat(self, above: int = 0) -> View:
        """Be heard of; renew the lease when it is ours, take it when it is free. Who acts now is in the answer.

        `above`: an epoch that somebody out there has seen; ours has to be greater. Raises DeposedError when the lease was
        ours and another has taken it, StoreUnavailableError.
        """
        with plain_words(self._engine), self._engine.begin() as connection:
            self._be_seen(connection)
            if self.epoch is None:
                self._take(connection)
            else:
                self._renew(connection, above)
            return self._view(connection)

    def release(self) -> None:
        """Let the others have it at once, and be forgotten; raises StoreUnavailableError."""
        with plain_words(self._engine), self._engine.begin() as connection:
            connection.execute(update(duty).where(*self._mine()).values(expires=0.0))
            connection.execute(delete(control_planes).where(control_planes.c.name == self._me.name))

    def fence(self, connection: Connection) -> None:
        """Let the transaction go on only if the lease is ours until it ends; raises DeposedError."""
        # The shared lock makes whoever wants to take over wait for the end of this transaction; so a program that stops
        # in the midst of it must not keep it for ever.
        connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {_LONGEST_PAUSE_MS}"))
        present = connection.execute(select(duty.c.epoch, duty.c.holder).with_for_update(read=True)).one()
        if (present.epoch, present.holder) != (self.epoch, self._me.name):
            raise DeposedError

    def known_envoys(self) -> set[str]:
        """The node ids that were noted; raises StoreUnavailableError."""
        with plain_words(self._engine), self._engine.connect() as connection:
            return set(connection.execute(select(envoys.c.node_id)).scalars())

    def note_envoys(self, come: set[str], gone: set[str]) -> None:
        """Note node ids, and forget others; raises StoreUnavailableError."""
        with plain_words(self._engine), self._engine.begin() as connection:
            self.fence(connection)
            connection.execute(delete(envoys).where(envoys.c.node_id.in_(come | gone)))
            if come:
                connection.execute(insert(envoys), [{"node_id": each} for each in sorted(come)])

    def _be_seen(self, connection: Connection) -> None:
        mine = control_planes.c.name == self._me.name
        if connection.execute(update(control_planes).where(mine).values(seen=_NOW)).rowcount == 0:
            row = {"name": self._me.name, "xds": self._me.xds, "api": self._me.api, "keys": self._me.keys}
            connection.execute(insert(control_planes).values(**row, seen=_NOW))

    def _take(self, connection: Connection) -> None:
        """One that has run out is free at the second look: where the whole machine stood still, its holder renews it first."""
        statement = (
            update(duty)
            .where(duty.c.expires < _NOW, or_(duty.c.expires == 0.0, duty.c.epoch == self._run_out))
            .values(epoch=duty.c.epoch + 1, holder=self._me.name, expires=_NOW + TTL)
            .returning(duty.c.epoch)
        )
        self.epoch = connection.execute(statement).scalar()
        self._run_out = connection.execute(select(duty.c.epoch).where(duty.c.expires < _NOW)).scalar()
        if self.epoch is not None:
            connection.execute(delete(control_planes).where(control_planes.c.seen < _NOW - _FORGOTTEN))

    def _renew(self, connection: Connection, above: int) -> None:
        """Also when it has run out and nobody has taken it: then nothing has happened that we do not know."""
        epoch = func.greatest(duty.c.epoch, above + 1 if above >= (self.epoch or 0) else 0)
        statement = update(duty).where(*self._mine()).values(epoch=epoch, expires=_NOW + TTL).returning(duty.c.epoch)
        renewed = connection.execute(statement).scalar()
        if renewed is None:
            raise DeposedError
        self.epoch = renewed

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return duty.c.holder == self._me.name, duty.c.epoch == self.epoch

    def _view(self, connection: Connection) -> View:
        seen = select(control_planes).where(control_planes.c.seen > _NOW - TTL).order_by(control_planes.c.name)
        peers = tuple(Peer(row.name, row.xds, row.api, row.keys) for row in connection.execute(seen))
        lease = connection.execute(select(duty.c.epoch, duty.c.holder, (duty.c.expires > _NOW).label("valid"))).one()
        acting = next((each for each in peers if lease.valid and each.name == lease.holder), None)
        return View(lease.epoch, acting, peers)
