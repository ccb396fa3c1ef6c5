"""Texts on which a careless regular expression takes time with the square of their length. Run as a program, it lets
one try them all: arguments are the pattern and its flags, as a number."""

import re
import sys
from collections.abc import Iterator
from re import _parser  # type: ignore[attr-defined]  # the only way to a pattern's parts
from typing import Any

N_CHARS = 100_000  # what is quadratic takes minutes of processor time for each of them


def characters(parsed: Any) -> Iterator[str]:
    """One of each kind that a pattern speaks of."""
    for operation, argument in parsed:
        if str(operation) in ("LITERAL", "NOT_LITERAL"):
            yield chr(argument)
        elif str(operation) == "RANGE":
            yield chr(argument[0])
        elif str(operation) == "CATEGORY":
            yield from " a0_é\n"
        elif isinstance(argument, list):
            yield from characters(argument)
        elif isinstance(argument, tuple):
            for part in argument:
                if isinstance(part, _parser.SubPattern):
                    yield from characters(part)
                elif isinstance(part, list):
                    for branch in part:
                        yield from characters(branch)


def hostile_inputs(pattern: "re.Pattern[Any]") -> Iterator[str]:
    """Long runs of what it speaks of, of pairs of that, and what makes it fail at the end."""
    spoken = list(dict.fromkeys(characters(_parser.parse(pattern.pattern, pattern.flags))))
    letters = [unit for unit in spoken if unit.isalnum()]
    units = [unit for unit in spoken if not unit.isalnum()] + [*letters[:1], *letters[-1:], " ", "A. "]
    for first in dict.fromkeys(units):
        yield first * N_CHARS + "\0"
        for second in dict.fromkeys(units):
            yield (first + second) * (N_CHARS // 2)


if __name__ == "__main__":
    tried = re.compile(sys.argv[1], int(sys.argv[2]))
    for text in hostile_inputs(tried):
        for _ in tried.finditer(text):
            pass
        tried.fullmatch(text)
