"""The forms of files that a run can read and write: tables, and batches."""

from typing import Any, BinaryIO

from model_api.jobs.files import tables
from model_api.jobs.files.batches import BATCH, BatchReader
from model_api.jobs.files.tables import Row

Reader = tables.CsvReader | tables.JsonLinesReader


def open_form(form: str, file: BinaryIO, column: str, lines_before: int | None = None) -> Reader:
    """`lines_before`: of the whole, where `file` is a part of it. Raises BadTable."""
    return BatchReader(file) if form == BATCH else tables.open_reader(form, file, column, lines_before)


def render_header(reader: Reader, *, neutral: bool = False) -> bytes:
    return tables.render_header(reader, neutral=neutral)


def render_row(reader: Reader, row: Row, prediction: Any, error: str | None, *, neutral: bool = False) -> bytes:
    """One output row; see tables.render_row."""
    if isinstance(reader, BatchReader):
        return reader.rendered(row, prediction, error)
    return tables.render_row(reader, row, prediction, error, neutral=neutral)
