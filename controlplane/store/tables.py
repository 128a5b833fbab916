"""The tables as the code sees them; `migrations/` is what makes them, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text

metadata = MetaData()

#: `document` is the whole value; the other columns repeat what is searched for or compared.
endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("revision", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

#: Every accepted config version and, once its update has ended, what became of it. Rows go with their endpoint.
config_versions = Table(
    "config_versions",
    metadata,
    Column("endpoint_id", String(64), ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
    Column("result", String(32)),
    Column("ended_ms", BigInteger),
)

#: What the replicas of updates that failed had printed, and how their environments were built (`kind`), for when
#: they and their files are gone.
kept_logs = Table(
    "kept_logs",
    metadata,
    Column("endpoint_id", String(64), ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("entity", String(63), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("text", Text, nullable=False),
)

#: Tokens that were handed out: what they say and a hash of their name, never the tokens. Kept when they are revoked.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user", String(255), nullable=False),
    Column("groups", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)

secret_scopes = Table("secret_scopes", metadata, Column("name", String(128), primary_key=True))

#: `value` is encrypted, with the scope and the key as associated data: it cannot be moved to where others may read it.
secrets = Table(
    "secrets",
    metadata,
    Column("scope", String(128), ForeignKey("secret_scopes.name", ondelete="CASCADE"), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("value", Text, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
)

secret_acls = Table(
    "secret_acls",
    metadata,
    Column("scope", String(128), ForeignKey("secret_scopes.name", ondelete="CASCADE"), primary_key=True),
    Column("principal", String(255), primary_key=True),
    Column("permission", String(16), nullable=False),
)

#: Which control plane acts: one row. `epoch` grows whenever the duty moves; times are the database's, in seconds.
duty = Table(
    "duty",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String(64), nullable=False),
    Column("expires", Float, nullable=False),
)

#: The control planes on this database, where Envoys and the others reach them, and when they were last heard of.
control_planes = Table(
    "control_planes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("xds", Text, nullable=False),
    Column("api", Text, nullable=False),
    Column("keys", String(64), nullable=False),
    Column("seen", Float, nullable=False),
)

#: The Envoys that may route by what they were told last, for a control plane that takes over.
envoys = Table("envoys", metadata, Column("node_id", Text, primary_key=True))
