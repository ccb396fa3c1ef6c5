"""Where sentences begin and end, by rule: good enough to choose among them, in scripts that end them with a mark."""

import re

# The end of a sentence: marks, closing quotes or brackets, then space and something that can begin one. The marks of
# scripts without spaces need none after them. Each run of marks is tried once, from its beginning and whole (++, *+):
# trying it from every mark takes half a minute for 20,000 dots.
_END = re.compile(
    r"""(?<![.!?…])[.!?…]++['"”’»)\]]*+(?=\s++['"“‘«(\[]*+[^\s\W_a-z])"""
    r"""|[。！？]++[」』”]*+|\n\s*\n|\n(?=\s*[-*•\d])"""
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|No|Nr|vs|etc|e\.g|i\.e|approx|Inc|Ltd|Co)\.$"
)
_LONGEST_ABBREVIATION = len(" approx.")


def split_sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence of `text`, without the space around it; together they hold all that can be seen."""
    spans, start = [], 0
    for match in _END.finditer(text):
        if _ABBREVIATION.search(text, max(start, match.end() - _LONGEST_ABBREVIATION), match.end()):
            continue
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, len(text)))
    trimmed = (_trimmed(text, *span) for span in spans)
    return [(start, end) for start, end in trimmed if any(c.isprintable() and c != " " for c in text[start:end])]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
