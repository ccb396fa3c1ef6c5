"""What the command shows: tables on a terminal, JSON in a pipe, progress on standard error."""

from __future__ import annotations

import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN_NUMBERS = 4
BAR_EVERY_S = 0.1
BAR_CHARS = 24


def shown(value: Any) -> str:
    """A value in a cell: one line, without what a terminal would take for a command."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and value and all(isinstance(item, (int, float)) for item in value):
        first = ", ".join(f"{item:.4g}" for item in value[:SHOWN_NUMBERS])
        return f"[{first}]" if len(value) <= SHOWN_NUMBERS else f"[{first}, … {len(value)} in all]"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return " " if char in "\n\t\r" else char.encode("unicode_escape").decode()


def width(text: str) -> int:
    """In cells of a terminal."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def table(names: Sequence[str], rows: Sequence[Sequence[Any]], columns: int) -> list[str]:
    """Lines of at most `columns` cells, as far as the widest column can give way."""
    cells = [[name.upper() for name in names], *([shown(value) for value in row] for row in rows)]
    widths = [max(width(row[i]) for row in cells) for i in range(len(names))]
    over = sum(widths) + 2 * (len(widths) - 1) - columns
    if over > 0:
        widest = widths.index(max(widths))
        widths[widest] = max(12, widths[widest] - over)
    return ["  ".join(_fitted(text, wanted) for text, wanted in zip(row, widths)).rstrip() for row in cells]


def _fitted(text: str, wanted: int) -> str:
    if width(text) > wanted:
        while width(text) > wanted - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (wanted - width(text))


class Output:
    """Standard output in one of two forms."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def rows(self, names: Sequence[str], rows: Sequence[Sequence[Any]], document: Any) -> None:
        """A table; or `document`, which is the same for programs."""
        if self.as_json:
            print(json.dumps(document, ensure_ascii=False))
            return
        if not rows:
            print("none")
            return
        for line in table(names, rows, shutil.get_terminal_size().columns):
            print(line)

    def fields(self, document: Mapping[str, Any]) -> None:
        """One thing, a line per field."""
        if self.as_json:
            print(json.dumps(document, ensure_ascii=False))
            return
        wanted = max(map(len, document), default=0)
        for name, value in document.items():
            print(f"{name:{wanted}}  {shown(value)}")

    def line(self, index: int, document: Mapping[str, Any], cells: Sequence[Any]) -> None:
        """One of many, as it comes."""
        if self.as_json:
            print(json.dumps(document, ensure_ascii=False), flush=True)
        else:
            print("  ".join(shown(cell) for cell in (index, *cells)), flush=True)


class Bar:
    """Progress on standard error; nothing where that is no terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._drawn = 0.0
        self._visible = sys.stderr.isatty()

    def show(self, done: int, total: int, unit: str = "") -> None:
        now = time.monotonic()
        if not self._visible or (now - self._drawn < BAR_EVERY_S and done != total):
            return
        self._drawn = now
        share = done / total if total > 0 else 0.0
        filled = "#" * int(BAR_CHARS * share)
        elapsed_s = now - self._began
        left = f", {elapsed_s / share - elapsed_s:.0f} s left" if 0 < share < 1 and elapsed_s > 1 else ""
        of = f"{done:,} of {total:,}" if total > 0 else f"{done:,}"
        print(f"\r{self._what} [{filled:{BAR_CHARS}}] {of} {unit}{left}\x1b[K", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._visible and self._drawn:
            print(file=sys.stderr)
            self._drawn = 0.0
