"""Conversations as callers send them: lists of {"role", "content"}."""

from collections.abc import Mapping, Sequence
from typing import Any

from model_api.errors import InvalidInput
from model_api.tasks.text.tokenization import check_text

ROLES = ("system", "user", "assistant")


def is_conversation(value: Any) -> bool:
    """Whether it is meant as one, well-formed or not."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) and "role" in one for one in value)


def check_conversation(messages: Sequence[Any], pointer: str, max_chars: int) -> None:
    """Raises InvalidInput below `pointer`."""
    total = 0
    for index, message in enumerate(messages):
        place = f"{pointer}/{index}"
        if not isinstance(message, Mapping):
            raise InvalidInput("must be a message: {role, content}", place)
        if unknown := sorted(message.keys() - {"role", "content"}):
            raise InvalidInput(f"unknown key {unknown[0][:40]!r}; a message is {{role, content}}", place)
        if message.get("role") not in ROLES:
            raise InvalidInput(f"must be one of {', '.join(ROLES)}", f"{place}/role")
        check_text(message.get("content"), f"{place}/content", max_chars, may_be_empty=True)
        total += len(message["content"])
    if total > max_chars:
        raise InvalidInput(f"the conversation has {total} characters, at most {max_chars} are accepted", pointer)
