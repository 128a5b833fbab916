"""What became of each config version, and the logs of those that failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Two columns and a table; of versions that are there already it is unknown how they ended."""
    op.add_column("config_versions", sa.Column("result", sa.String(32)))
    op.add_column("config_versions", sa.Column("ended_ms", sa.BigInteger()))
    op.create_table(
        "kept_logs",
        sa.Column("endpoint_id", sa.String(64), sa.ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("entity", sa.String(63), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
    )
