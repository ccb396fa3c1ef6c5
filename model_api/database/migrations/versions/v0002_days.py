"""Sums by the day in UTC, beside those by the hour: a year of them is read in a moment. And who called, by key."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "v0002_days"
down_revision = "v0001_predictions"

MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
BINS = [f"bin_{i:02}" for i in range(20)]


def upgrade() -> None:
    op.add_column("predictions", sa.Column("caller", sa.String(64)))
    op.create_table(
        "prediction_days",
        sa.Column("measure", sa.String(16), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("total_of_squares", sa.Double, nullable=False),
        sa.Column("least", sa.Double),
        sa.Column("greatest", sa.Double),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in BINS),
        sqlite_with_rowid=False,
        **MYSQL,
    )
    day = "hour / 24" if op.get_bind().dialect.name != "mysql" else "hour DIV 24"
    names = ["n", "total", "total_of_squares", "least", "greatest", *BINS]
    summed = [f"{'MIN' if n == 'least' else 'MAX' if n == 'greatest' else 'SUM'}({n})" for n in names]
    op.execute(
        f"INSERT INTO prediction_days (measure, day, source, model, {', '.join(names)})"  # noqa: S608 - names of ours
        f" SELECT measure, {day}, source, model, {', '.join(summed)} FROM prediction_hours"
        f" GROUP BY measure, {day}, source, model"
    )
