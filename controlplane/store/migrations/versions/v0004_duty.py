"""Several control planes on one database, one of which acts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Three tables; nobody has the duty yet."""
    duty = op.create_table(
        "duty",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
    )
    op.bulk_insert(duty, [{"id": 1, "epoch": 0, "holder": "", "expires": 0.0}])
    op.create_table(
        "control_planes",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("xds", sa.Text(), nullable=False),
        sa.Column("api", sa.Text(), nullable=False),
        sa.Column("keys", sa.String(64), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
    )
    op.create_table("envoys", sa.Column("node_id", sa.Text(), primary_key=True))
