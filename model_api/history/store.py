"""The history in its database: written with its sums in one transaction, labelled with references, cut to its time."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from model_api.database.database import Database, add_up
from model_api.errors import DatabaseDown, UnknownPrediction
from model_api.history.entries import PAIR_SCORED, PAIR_TOO_LONG, PAIR_WAITING, Keeping, Row, referred
from model_api.history.ids import Ids, first_id
from model_api.history.measures import ROUGE_AND_BLEU
from model_api.history.sample_pairs import PAIRS
from model_api.history.sums import Sum, day_sums, group_sums, hour_sums, label_sums
from model_api.history.tables import DAYS, GROUPS, HOURS, LABELS, PREDICTIONS, SAMPLES

P = PREDICTIONS.c
ID_ATTEMPTS = 3
DAY_MS = 86_400_000
_OF_PAIRS = tuple(ROUGE_AND_BLEU)


class Store:
    """Any thread. Every method raises DatabaseDown where the database can't do it; then nothing was written."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self._ids = Ids()

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Write rows of entries.py and what they add to the sums; their ids, in order."""
        for attempt in range(1, ID_ATTEMPTS + 1):
            ids = [self._ids.draw(row["created_ms"]) for row in rows]
            numbered = [{"id": row_id, **row} for row_id, row in zip(ids, rows, strict=True)]
            try:
                self.database.write(lambda connection, numbered=numbered: _insert(connection, numbered))  # type: ignore[misc]
                return ids
            except DatabaseDown as error:
                if attempt == ID_ATTEMPTS or not isinstance(error.__cause__, IntegrityError):
                    raise
                self._ids.anew()  # another process draws the same ones
        raise AssertionError

    def refer(self, prediction_id: int, reference: Any, keeping: Keeping) -> None:
        """Say what would have been right. Raises UnknownPrediction."""

        def work(connection: Connection) -> None:
            row = (
                connection.execute(select(PREDICTIONS).where(P.id == prediction_id).with_for_update())
                .mappings()
                .first()
            )
            if row is None:
                raise UnknownPrediction(f"no prediction {prediction_id} is in the history")
            before = [dict(row)]
            _add_hours(connection, hour_sums(before, ("correct", *_OF_PAIRS), -1))
            unscored = {**row, **dict.fromkeys(ROUGE_AND_BLEU.values())}
            predicted = None if row["prediction"] is None else orjson.loads(row["prediction"])
            changed = referred(unscored, predicted, keeping.redacted(reference), keeping)
            values = {**dict.fromkeys(ROUGE_AND_BLEU.values()), **changed}
            connection.execute(update(PREDICTIONS).where(P.id == prediction_id).values(values))
            _add_hours(connection, hour_sums([{**row, **values}], ("correct",)))

        self.database.write(work)

    def waiting_pairs(self, limit: int) -> list[tuple[int, str, str]]:
        """(id, reference, prediction) of texts that wait to be scored; as JSON."""
        wanted = select(P.id, P.reference, P.prediction).where(P.pair_state == PAIR_WAITING).order_by(P.id).limit(limit)
        with self.database.reading() as connection:
            return [(row.id, row.reference, row.prediction) for row in connection.execute(wanted)]

    def score_pairs(self, scores: Mapping[int, Mapping[str, float] | None]) -> int:
        """Note the scores of pairs, None for one that is too long; how many still waited for theirs."""

        def work(connection: Connection) -> int:
            scored = []
            for prediction_id, found in sorted(scores.items()):
                values: Row = {"pair_state": PAIR_TOO_LONG if found is None else PAIR_SCORED}
                values |= {column: (found or {}).get(name) for name, column in ROUGE_AND_BLEU.items()}
                wanted = update(PREDICTIONS).where(P.id == prediction_id, P.pair_state == PAIR_WAITING).values(values)
                if connection.execute(wanted).rowcount == 1:  # else another instance was first
                    scored.append(prediction_id)
            rows = [dict(row) for row in connection.execute(select(PREDICTIONS).where(P.id.in_(scored))).mappings()]
            _add_hours(connection, hour_sums(rows, _OF_PAIRS))
            return len(scored)

        return self.database.write(work)

    def drop_before(self, moment_ms: int, limit: int) -> int:
        """Forget predictions of before that moment, at most so many; how many there were."""
        with self.database.reading() as connection:
            wanted = select(P.id).where(P.id < first_id(moment_ms)).order_by(P.id).limit(limit)
            ids = list(connection.execute(wanted).scalars())
        if ids:
            self.database.write(lambda connection: connection.execute(delete(PREDICTIONS).where(P.id.in_(ids))))
        elif moment_ms > 0:
            day = moment_ms // DAY_MS  # who is who goes with the predictions
            self.database.write(lambda connection: connection.execute(delete(GROUPS).where(GROUPS.c.day < day)))
        return len(ids)

    def add_samples(self) -> int:
        """Put the sample articles there, unless there are any; how many there are."""

        def work(connection: Connection) -> None:
            if connection.execute(select(SAMPLES.c.id).limit(1)).first() is None:
                rows = [{"id": i, "document": a, "summary": b} for i, (a, b) in enumerate(PAIRS)]
                connection.execute(insert(SAMPLES), rows)

        self.database.write(work)
        return len(self.sample_pairs())

    def sample_pairs(self) -> list[tuple[str, str]]:
        """(article, summary); ours where none were put there."""
        with self.database.reading() as connection:
            found = [(row.document, row.summary) for row in connection.execute(select(SAMPLES))]
        return found or PAIRS

    def count(self) -> int:
        with self.database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(PREDICTIONS)).scalar_one())

    def close(self) -> None:
        self.database.close()


def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    connection.execute(insert(PREDICTIONS), rows)
    _add_hours(connection, hour_sums(rows))
    add_up(connection, LABELS, label_sums(rows))
    add_up(connection, GROUPS, group_sums(rows))


def _add_hours(connection: Connection, sums: Sequence[Sum]) -> None:
    add_up(connection, HOURS, sums, least=("least",), greatest=("greatest",))
    add_up(connection, DAYS, day_sums(sums), least=("least",), greatest=("greatest",))
