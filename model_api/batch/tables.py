"""Reading rows of a CSV or JSON lines file one by one, and writing them with two more columns."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

csv.field_size_limit(2**27)  # bytes of one field; the default of 128 KiB is shorter than an article may be
PREDICTION, ERROR = "prediction", "error"

Row = dict[str, Any]


class BadTable(Exception):
    """The file can't be read as what its name says, or lacks the column."""


class Reader(Protocol):
    """Iterates over rows; `offset` is how many bytes of the file have been taken in."""

    offset: int

    def __iter__(self) -> Iterator[Row]: ...


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

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _Lines(file)
        self._rows = csv.reader(self._lines)
        self.columns = next(self._rows, [])
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise BadTable("the first line must name the columns, each once")

    @property
    def offset(self) -> int:
        return self._lines.offset

    def __iter__(self) -> Iterator[Row]:
        try:
            for values in self._rows:
                if values and len(values) != len(self.columns):
                    raise BadTable(
                        f"line {self._rows.line_num} has {len(values)} fields, the header {len(self.columns)}"
                    )
                if values:
                    yield dict(zip(self.columns, values, strict=True))
        except csv.Error as error:
            raise BadTable(f"line {self._rows.line_num}: {error}") from error


class JsonLinesReader:
    """Rows of a file with a JSON object on each line."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _Lines(file)
        self.columns: list[str] = []

    @property
    def offset(self) -> int:
        return self._lines.offset

    def __iter__(self) -> Iterator[Row]:
        for number, line in enumerate(self._lines, 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BadTable(f"line {number} is not JSON") from error
            if not isinstance(row, dict):
                raise BadTable(f"line {number} is not a JSON object")
            yield row


def open_reader(path: Path, file: BinaryIO, column: str) -> CsvReader | JsonLinesReader:
    """By the name's end. Raises BadTable."""
    if path.suffix.lower() == ".csv":
        reader = CsvReader(file)
        if column not in reader.columns:
            raise BadTable(f"no column {column!r}; there are {', '.join(reader.columns)}")
        return reader
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return JsonLinesReader(file)
    raise BadTable("the name must end in .csv, .jsonl or .ndjson")


def render_header(reader: CsvReader | JsonLinesReader) -> bytes:
    """What an output file begins with."""
    return _csv_line([*_kept(reader.columns), PREDICTION, ERROR]) if isinstance(reader, CsvReader) else b""


def render_row(reader: CsvReader | JsonLinesReader, row: Row, prediction: Any, error: str | None) -> bytes:
    """One output row. In CSV a prediction is its label or text where it has one, else its JSON."""
    if isinstance(reader, JsonLinesReader):
        return json.dumps({**row, PREDICTION: prediction, ERROR: error}, ensure_ascii=False).encode() + b"\n"
    return _csv_line([*(row[c] for c in _kept(reader.columns)), "" if error else _short(prediction), error or ""])


def _kept(columns: list[str]) -> list[str]:
    return [column for column in columns if column not in (PREDICTION, ERROR)]


def _short(prediction: Any) -> str:
    if isinstance(prediction, Mapping):
        prediction = prediction.get("label", prediction.get("text", prediction))
    return prediction if isinstance(prediction, str) else json.dumps(prediction, ensure_ascii=False)


def _csv_line(values: list[Any]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode()
