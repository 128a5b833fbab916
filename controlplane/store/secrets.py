"""Secrets: encrypted when they come in, decrypted for a process that is started, shown to nobody."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from controlplane.domain import Caller, SecretAcl, SecretInfo, SecretPermission
from controlplane.store.database import plain_words
from controlplane.store.store import Store
from controlplane.store.tables import secret_acls, secret_scopes, secrets

_NONCE = 12


class Secrets:
    """Scopes, their secrets and who may use them; safe to use from any thread.

    Values are encrypted with a key that the database does not have, bound to their scope and key.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self._store = store
        self._engine = store.engine
        self._cipher = AESGCM(key)

    def scopes(self) -> list[str]:
        """The names of all scopes."""
        with plain_words(self._engine), self._engine.connect() as connection:
            return list(connection.execute(select(secret_scopes.c.name).order_by(secret_scopes.c.name)).scalars())

    def make_scope(self, name: str, manager: str) -> bool:
        """Make a scope that `manager` may do everything with; False when there is one of that name."""
        try:
            with self._store.writing() as connection:
                connection.execute(insert(secret_scopes).values(name=name))
                _put_acl(connection, name, SecretAcl(manager, SecretPermission.MANAGE))
        except IntegrityError:
            return False
        return True

    def delete_scope(self, name: str) -> None:
        """Remove a scope and all in it."""
        with self._store.writing() as connection:
            connection.execute(delete(secret_scopes).where(secret_scopes.c.name == name))

    def permission(self, scope: str, caller: Caller) -> SecretPermission | None:
        """The most that the caller may do with a scope."""
        if caller.is_admin:
            return SecretPermission.MANAGE
        mine = [acl.permission for acl in self.acls(scope) if acl.principal in {caller.user, "users", *caller.groups}]
        return max(mine, key=tuple(SecretPermission).index, default=None)

    def acls(self, scope: str) -> list[SecretAcl]:
        """Who may do what with a scope."""
        statement = select(secret_acls).where(secret_acls.c.scope == scope).order_by(secret_acls.c.principal)
        with plain_words(self._engine), self._engine.connect() as connection:
            return [SecretAcl(row.principal, SecretPermission(row.permission)) for row in connection.execute(statement)]

    def put_acl(self, scope: str, acl: SecretAcl) -> None:
        """Give a principal this permission on a scope, whatever it had."""
        with self._store.writing() as connection:
            _put_acl(connection, scope, acl)

    def delete_acl(self, scope: str, principal: str) -> bool:
        """Take away what a principal has on a scope; False when that is nothing."""
        statement = delete(secret_acls).where(secret_acls.c.scope == scope, secret_acls.c.principal == principal)
        with self._store.writing() as connection:
            return connection.execute(statement).rowcount > 0

    def keys(self, scope: str) -> list[SecretInfo]:
        """What is in a scope, without the values."""
        statement = select(secrets.c.key, secrets.c.updated_ms).where(secrets.c.scope == scope).order_by(secrets.c.key)
        with plain_words(self._engine), self._engine.connect() as connection:
            return [SecretInfo(key, updated_ms) for key, updated_ms in connection.execute(statement)]

    def put(self, scope: str, key: str, value: bytes, now_ms: int) -> None:
        """Keep a secret, in place of the one of that key."""
        nonce = os.urandom(_NONCE)
        sealed = base64.b64encode(nonce + self._cipher.encrypt(nonce, value, _place(scope, key))).decode()
        with self._store.writing() as connection:
            connection.execute(delete(secrets).where(secrets.c.scope == scope, secrets.c.key == key))
            connection.execute(insert(secrets).values(scope=scope, key=key, value=sealed, updated_ms=now_ms))

    def delete(self, scope: str, key: str) -> bool:
        """Remove a secret; False when there is none of that key."""
        statement = delete(secrets).where(secrets.c.scope == scope, secrets.c.key == key)
        with self._store.writing() as connection:
            return connection.execute(statement).rowcount > 0

    def missing(self, places: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of these (scope, key) that there is no secret at."""
        return [place for place in places if self._sealed(*place) is None]

    def value(self, scope: str, key: str) -> bytes | None:
        """A secret's value, for a process that is being started; None when it is not there or cannot be decrypted."""
        sealed = self._sealed(scope, key)
        if sealed is None:
            return None
        data = base64.b64decode(sealed)
        try:
            return self._cipher.decrypt(data[:_NONCE], data[_NONCE:], _place(scope, key))
        except InvalidTag:
            return None

    def _sealed(self, scope: str, key: str) -> str | None:
        statement = select(secrets.c.value).where(secrets.c.scope == scope, secrets.c.key == key)
        with plain_words(self._engine), self._engine.connect() as connection:
            return connection.execute(statement).scalar()


def _put_acl(connection: Connection, scope: str, acl: SecretAcl) -> None:
    connection.execute(
        delete(secret_acls).where(secret_acls.c.scope == scope, secret_acls.c.principal == acl.principal)
    )
    connection.execute(
        insert(secret_acls).values(scope=scope, principal=acl.principal, permission=acl.permission.value)
    )


def _place(scope: str, key: str) -> bytes:
    return f"{scope}/{key}".encode()
