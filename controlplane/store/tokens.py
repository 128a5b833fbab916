"""Tokens that were handed out, and which of them were revoked."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from controlplane.domain import Token
from controlplane.store.database import plain_words
from controlplane.store.store import Store
from controlplane.store.tables import tokens


class Tokens:
    """The metadata of all tokens; safe to use from any thread, raises StoreUnavailableError like the Store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._engine = store.engine

    def add(self, token: Token) -> None:
        """Note a token; one that is there already stays as it is."""
        row = {
            "id": token.id,
            "user": token.user,
            "groups": orjson.dumps(token.groups).decode(),
            "comment": token.comment,
            "creator": token.creator,
            "created_ms": token.created_ms,
            "expires_ms": token.expires_ms,
        }
        try:
            with self._store.writing() as connection:
                connection.execute(insert(tokens).values(row))
        except IntegrityError:
            return

    def all(self, user: str | None = None) -> list[Token]:
        """Tokens that were not revoked, those of one user or everybody's, oldest first."""
        statement = select(tokens).where(tokens.c.revoked_ms.is_(None)).order_by(tokens.c.created_ms, tokens.c.id)
        if user is not None:
            statement = statement.where(tokens.c.user == user)
        with plain_words(self._engine), self._engine.connect() as connection:
            return [_token(row) for row in connection.execute(statement)]

    def get(self, token_id: str) -> Token | None:
        """One token, revoked or not."""
        with plain_words(self._engine), self._engine.connect() as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == token_id)).first()
        return None if row is None else _token(row)

    def revoke(self, token_id: str, now_ms: int) -> None:
        """Note that a token is not to be accepted any more; the first time counts."""
        statement = update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_ms.is_(None))
        with self._store.writing() as connection:
            connection.execute(statement.values(revoked_ms=now_ms))

    def revoked(self, not_expired_ms: int) -> list[str]:
        """The ids of revoked tokens that would still be accepted at that time."""
        lasting = or_(tokens.c.expires_ms.is_(None), tokens.c.expires_ms > not_expired_ms)
        statement = select(tokens.c.id).where(tokens.c.revoked_ms.is_not(None), lasting)
        with plain_words(self._engine), self._engine.connect() as connection:
            return list(connection.execute(statement).scalars())


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        user=row.user,
        groups=tuple(orjson.loads(row.groups)),
        comment=row.comment,
        creator=row.creator,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
    )
