"""Predictions, and the hourly sums of what they measure and of their labels."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "v0001_predictions"
down_revision = None

# MySQL's other collations take "a" and "A", or "e" and "é", for the same key.
MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
N_BINS = 20


def upgrade() -> None:
    _create_predictions()
    _create_sums()


def _create_predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("hour", sa.Integer, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128)),
        sa.Column("digest", sa.String(64)),
        sa.Column("task", sa.String(64)),
        sa.Column("user_name", sa.String(128)),
        sa.Column("topic", sa.String(128)),
        sa.Column("input", LONG_TEXT),
        sa.Column("input_sha256", sa.String(64)),
        sa.Column("input_chars", sa.Integer),
        sa.Column("prediction", LONG_TEXT),
        sa.Column("output_chars", sa.Integer),
        sa.Column("label", sa.String(128)),
        sa.Column("score", sa.Double),
        sa.Column("reference", LONG_TEXT),
        sa.Column("pair_state", sa.SmallInteger, nullable=False),
        sa.Column("correct", sa.SmallInteger),
        sa.Column("rouge1", sa.Double),
        sa.Column("rouge2", sa.Double),
        sa.Column("rouge_l", sa.Double),
        sa.Column("rouge_lsum", sa.Double),
        sa.Column("bleu", sa.Double),
        sa.Column("latency_ms", sa.Double),
        sa.Column("cached", sa.SmallInteger, nullable=False),
        **MYSQL,
    )
    op.create_index("predictions_source", "predictions", ["source", "id"])
    op.create_index("predictions_model", "predictions", ["model", "id"])
    waiting = sa.text("pair_state = 1")
    op.create_index(
        "predictions_waiting", "predictions", ["pair_state", "id"], sqlite_where=waiting, postgresql_where=waiting
    )


def _create_sums() -> None:
    op.create_table(
        "prediction_hours",
        sa.Column("measure", sa.String(16), primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("total_of_squares", sa.Double, nullable=False),
        sa.Column("least", sa.Double),
        sa.Column("greatest", sa.Double),
        *(sa.Column(f"bin_{i:02}", sa.BigInteger, nullable=False) for i in range(N_BINS)),
        sqlite_with_rowid=False,
        **MYSQL,
    )
    op.create_table(
        "label_hours",
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("label", sa.String(128), primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("total_score", sa.Double, nullable=False),
        sqlite_with_rowid=False,
        **MYSQL,
    )
    op.create_table(
        "label_groups",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("label", sa.String(128), primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("total_score", sa.Double, nullable=False),
        sqlite_with_rowid=False,
        **MYSQL,
    )
    op.create_table(
        "sample_pairs",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("document", LONG_TEXT, nullable=False),
        sa.Column("summary", LONG_TEXT, nullable=False),
        **MYSQL,
    )
