"""RSS and Atom as rows. XML without a DOCTYPE alone, so nothing in it can be an entity of somebody's making."""

import xml.parsers.expat
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, BinaryIO

from model_api.errors import InvalidInput

PLACE = "/pipeline"
MAX_DEPTH = 64
MAX_ENTRIES = 10_000
MAX_TEXT_CHARS = 1_000_000  # of one entry
_ENTRIES = ("item", "entry")
_NAMES: Mapping[str, str] = {
    "title": "title",
    "description": "summary",
    "summary": "summary",
    "encoded": "content",
    "content": "content",
    "link": "link",
    "guid": "id",
    "id": "id",
    "pubDate": "published",
    "published": "published",
    "updated": "updated",
    "date": "published",
}


def rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """{"id", "title", "text", "link", "published"} per entry, in the feed's order; `text` is the title and what follows
    it, as plain text. Raises InvalidInput."""
    feed = _Feed()
    try:
        feed.parser.ParseFile(file)
    except xml.parsers.expat.ExpatError as error:
        raise InvalidInput(f"the feed is no XML ({error})", PLACE) from None
    if not feed.is_feed:
        raise InvalidInput("neither RSS nor Atom", PLACE)
    for entry in feed.entries:
        title = plain_text(entry.get("title", ""))
        body = plain_text(entry.get("content") or entry.get("summary", ""))
        link = entry.get("link", "").strip()
        yield {
            "id": entry.get("id", "").strip() or link,
            "title": title,
            "text": "\n".join(part for part in (title, body) if part),
            "link": link,
            "published": (entry.get("published") or entry.get("updated", "")).strip(),
        }


class _Feed:
    """What expat tells, put together."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []
        self.is_feed = False
        self._path: list[str] = []
        self._entry: dict[str, str] | None = None
        self._chars = 0
        self.parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def _refuse(self, *declared: Any) -> None:
        raise InvalidInput("the feed declares a DOCTYPE, which is not read here", PLACE)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        self._path.append(local)
        if len(self._path) > MAX_DEPTH:
            raise InvalidInput(f"the feed is nested deeper than {MAX_DEPTH}", PLACE)
        self.is_feed = self.is_feed or (len(self._path) == 1 and local in ("rss", "feed", "RDF"))
        if local in _ENTRIES and self._entry is None:
            if len(self.entries) == MAX_ENTRIES:
                raise InvalidInput(f"the feed has more than {MAX_ENTRIES} entries", PLACE)
            self._entry, self._chars = {}, 0
        elif self._entry is not None and local == "link" and attributes.get("rel", "alternate") == "alternate":
            self._entry.setdefault("link", attributes.get("href", ""))

    def _end(self, name: str) -> None:
        if self._path.pop() in _ENTRIES and self._entry is not None and not set(_ENTRIES) & set(self._path):
            self.entries.append(self._entry)
            self._entry = None

    def _text(self, text: str) -> None:
        if self._entry is None:
            return
        # Markup inside an Atom text belongs to it.
        begin = next(i for i, local in enumerate(self._path) if local in _ENTRIES)
        field = _NAMES.get(self._path[begin + 1]) if len(self._path) > begin + 1 else None
        if field is None:
            return
        self._chars += len(text)
        if self._chars > MAX_TEXT_CHARS:
            raise InvalidInput(f"an entry of the feed is longer than {MAX_TEXT_CHARS} characters", PLACE)
        self._entry[field] = self._entry.get(field, "") + text


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style")
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def plain_text(markup: str) -> str:
    """The words of a piece of HTML, or of plain text, with single spaces."""
    text = _Text()
    text.feed(markup)
    text.close()
    return " ".join("".join(text.parts).split())
