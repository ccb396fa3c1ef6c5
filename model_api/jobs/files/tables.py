"""Reading rows of a CSV or JSON lines file one by one, and writing them with two more columns.

What is wrong with one row alone is told in its error column; BadTable is for a file whose rows can't be told apart.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

csv.field_size_limit(2**27)  # bytes of one field; the default of 128 KiB is shorter than an article may be
PREDICTION, SCORE, ERROR = "prediction", "prediction_score", "error"  # SCORE in CSV alone
CSV, JSON_LINES = "csv", "jsonl"
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


class Row(NamedTuple):
    """What a row holds, as far as it can be read, and what is wrong with it."""

    values: dict[str, Any]
    fault: str | None = None


class BadTable(Exception):
    """The file can't be read as what its name says, or lacks the column."""


class _Lines:
    """Text lines of a binary file, counting bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.offset = 0

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._file):
            self.offset += len(line)
            try:
                yield line.decode("utf-8-sig" if number == 0 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadTable(f"line {number + 1} is not UTF-8") from error


class CsvReader:
    """Rows of a CSV file with a header."""

    def __init__(self, file: BinaryIO, lines_before: int | None = None) -> None:
        """`lines_before`: of the whole file, where this is a part of it with its header."""
        self._lines = _Lines(file)
        # Strict: else a quote that is never closed makes the rest of the file one field, and nobody is told.
        self._rows = csv.reader(self._lines, strict=True)
        self.columns = next(self._values(), [])
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise BadTable("the first line must name the columns, each once")
        self._shift = 0 if lines_before is None else lines_before - self._rows.line_num

    @property
    def offset(self) -> int:
        return self._lines.offset

    @property
    def lines(self) -> int:
        """Read so far."""
        return self._rows.line_num

    def __iter__(self) -> Iterator[Row]:
        for values in self._values():
            fault = None
            if len(values) != len(self.columns):
                fault = f"line {self.lines + self._shift} has {len(values)} fields, the header {len(self.columns)}"
                values += [""] * (len(self.columns) - len(values))
            yield Row(dict(zip(self.columns, values, strict=False)), fault)

    def _values(self) -> Iterator[list[str]]:
        try:
            yield from filter(None, self._rows)
        except csv.Error as error:
            raise BadTable(f"line {self._rows.line_num}: {error}") from error


class JsonLinesReader:
    """Rows of a file with a JSON object on each line."""

    def __init__(self, file: BinaryIO, lines_before: int | None = None) -> None:
        self._file = file
        self._shift = lines_before or 0
        self.columns: list[str] = []
        self.offset = 0
        self.lines = 0

    def __iter__(self) -> Iterator[Row]:
        for number, line in enumerate(self._file, 1):
            self.offset += len(line)
            self.lines = number
            if line.isspace():
                continue
            try:
                values = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                _json_line(values)  # NaN and half a surrogate pair can be read, but never written
            except (ValueError, RecursionError):
                values = None
            if isinstance(values, dict):
                yield Row(values)
            else:
                yield Row({}, f"line {number + self._shift} is not a JSON object in UTF-8")


def form_of(path: Path) -> str:
    """CSV or JSON_LINES, by the name's end. Raises BadTable."""
    found = {".csv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES}.get(path.suffix.lower())
    if found is None:
        raise BadTable("the name must end in .csv, .jsonl or .ndjson")
    return found


def open_reader(form: str, file: BinaryIO, column: str, lines_before: int | None = None) -> CsvReader | JsonLinesReader:
    """Raises BadTable."""
    if form == CSV:
        reader = CsvReader(file, lines_before)
        if column not in reader.columns:
            raise BadTable(f"no column {column!r}; there are {', '.join(reader.columns)}")
        return reader
    return JsonLinesReader(file, lines_before)


def render_header(reader: CsvReader | JsonLinesReader, *, neutral: bool = False) -> bytes:
    """What an output file begins with."""
    if isinstance(reader, JsonLinesReader):
        return b""
    cells = [*_kept(reader.columns), PREDICTION, SCORE, ERROR]
    return _csv_line([neutralised(cell) for cell in cells] if neutral else cells)


def render_row(
    reader: CsvReader | JsonLinesReader, row: Row, prediction: Any, error: str | None, *, neutral: bool = False
) -> bytes:
    """One output row. In CSV a prediction is its label (its score has a column of its own) or text where that is all
    that was asked for, else its JSON.

    `neutral`: no cell of a CSV is a formula, for who opens it in a spreadsheet.
    """
    values = row.values
    if isinstance(reader, JsonLinesReader):
        return _json_line({**values, PREDICTION: prediction, ERROR: error})
    shown = ("", "") if error else (_short(prediction), _score(prediction))
    cells = [*(values[c] for c in _kept(reader.columns)), *shown, error or ""]
    return _csv_line([neutralised(cell) for cell in cells] if neutral else cells)


def neutralised(cell: str) -> str:
    """The text, with ' before it where a spreadsheet would take it for a formula."""
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or _NUMBER.fullmatch(cell):
        return cell
    return "'" + cell


def _kept(columns: list[str]) -> list[str]:
    return [column for column in columns if column not in (PREDICTION, SCORE, ERROR)]


def _short(prediction: Any) -> str:
    if isinstance(prediction, Mapping) and "labels" not in prediction:
        prediction = prediction.get("label", prediction.get("text", prediction))
    return prediction if isinstance(prediction, str) else json.dumps(prediction, ensure_ascii=False)


def _score(prediction: Any) -> str:
    """How sure the model is of a label; "" for what has no score."""
    return repr(prediction["score"]) if isinstance(prediction, Mapping) and "score" in prediction else ""


def _json_line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _csv_line(values: list[Any]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode()
