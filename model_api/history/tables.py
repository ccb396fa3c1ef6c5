"""The tables, as database/migrations makes them (a test compares the two)."""

from typing import Any

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, SmallInteger, String, Table, Text, text
from sqlalchemy.dialects import mysql

from model_api.history.measures import N_BINS

BINS = [f"bin_{i:02}" for i in range(N_BINS)]
METADATA = MetaData()
_MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_LONG_TEXT = Text().with_variant(mysql.MEDIUMTEXT(), "mysql")

PREDICTIONS = Table(
    "predictions",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # ids.py: in the order of time
    Column("created_ms", BigInteger, nullable=False),  # since 1970
    Column("hour", Integer, nullable=False),  # since 1970
    Column("source", String(64), nullable=False),
    Column("model", String(128), nullable=False),  # "" where somebody else's prediction was sent
    Column("version", String(128)),
    Column("digest", String(64)),
    Column("task", String(64)),
    Column("user_name", String(128)),
    Column("topic", String(128)),
    Column("input", _LONG_TEXT),  # JSON, as prediction and reference are; NULL where it isn't kept
    Column("input_sha256", String(64)),  # of that JSON
    Column("input_chars", Integer),
    Column("prediction", _LONG_TEXT),
    Column("output_chars", Integer),
    Column("label", String(128)),
    Column("score", Double),
    Column("reference", _LONG_TEXT),
    Column("pair_state", SmallInteger, nullable=False),  # rows.py
    Column("correct", SmallInteger),
    Column("rouge1", Double),
    Column("rouge2", Double),
    Column("rouge_l", Double),
    Column("rouge_lsum", Double),
    Column("bleu", Double),
    Column("latency_ms", Double),
    Column("cached", SmallInteger, nullable=False),
    Column("caller", String(64)),  # the id of a key
    **_MYSQL,
)
Index("predictions_source", PREDICTIONS.c.source, PREDICTIONS.c.id)
Index("predictions_model", PREDICTIONS.c.model, PREDICTIONS.c.id)
_WAITING = text("pair_state = 1")
Index(
    "predictions_waiting",
    PREDICTIONS.c.pair_state,
    PREDICTIONS.c.id,
    sqlite_where=_WAITING,
    postgresql_where=_WAITING,
)


def _sums(name: str, period: str) -> Table:
    """What is measured, summed up over a period since 1970 in UTC."""
    return Table(
        name,
        METADATA,
        Column("measure", String(16), primary_key=True),
        Column(period, Integer, primary_key=True, autoincrement=False),
        Column("source", String(64), primary_key=True),
        Column("model", String(128), primary_key=True),
        Column("n", BigInteger, nullable=False),
        Column("total", Double, nullable=False),
        Column("total_of_squares", Double, nullable=False),
        Column("least", Double),
        Column("greatest", Double),
        *(Column(bin_name, BigInteger, nullable=False) for bin_name in BINS),
        sqlite_with_rowid=False,
        **_MYSQL,
    )


HOURS = _sums("prediction_hours", "hour")
DAYS = _sums("prediction_days", "day")

LABELS = Table(
    "label_hours",
    METADATA,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("source", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("label", String(128), primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("total_score", Double, nullable=False),
    sqlite_with_rowid=False,
    **_MYSQL,
)

GROUPS = Table(
    "label_groups",
    METADATA,
    Column("kind", String(8), primary_key=True),  # user or topic
    Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970, in UTC
    Column("model", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("label", String(128), primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("total_score", Double, nullable=False),
    sqlite_with_rowid=False,
    **_MYSQL,
)

SAMPLES = Table(
    "sample_pairs",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("document", _LONG_TEXT, nullable=False),
    Column("summary", _LONG_TEXT, nullable=False),
    **_MYSQL,
)
