"""The tables as the code sees them; `migrations/` is what makes them, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String, Table, Text

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
