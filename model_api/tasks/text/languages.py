"""The languages of a translation model: the tokens of its tokenizer that stand for one."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.errors import InvalidInput, Refused
from model_api.repository.bounded_json import read_json
from model_api.repository.known_tasks import did_you_mean
from model_api.repository.loaded_files import MAX_JSON_BYTES
from model_api.tasks.parameters import pointer_to
from model_api.tasks.text.settled_tokenizer import settled_file

_SETTLED = "languages-1.json"
# NLLB's eng_Latn, mBART's en_XX, M2M100's __en__, Marian's >>fra<<: what is inside is what callers write.
_TOKEN = re.compile(r"([a-z]{3}_[A-Z][a-z]{3}|[a-z]{2,3}_[A-Z]{2})|__([a-z]{2,3})__|>>([A-Za-z_]{2,20})<<")


@dataclass(frozen=True)
class Languages:
    """`ids`: of each language's token, by its code; `written`: those that stand in the text itself (Marian's)."""

    ids: Mapping[str, int]
    written: Mapping[str, str]

    def check(self, code: str, name: str) -> str:
        """The same code. Raises InvalidInput at the parameter `name`."""
        known = self.ids or self.written
        if code not in known:
            listed = ", ".join(sorted(known)[:12]) + (", ..." if len(known) > 12 else "")
            told = f"its languages: {listed}" if known else "it translates from one language into one"
            raise InvalidInput(
                f"the model has no language {code!r}{did_you_mean(code, known)}; {told}", pointer_to(name)
            )
        return code


def settle_languages(folder: Path) -> None:
    """Write the languages down beside the settled tokenizer, which may be too large for the web process to look
    through."""
    target = folder / ".converted" / _SETTLED
    document = read_json(settled_file(folder), MAX_JSON_BYTES)
    target.parent.mkdir(exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    partial.write_text(json.dumps(dict(_language_tokens(document))), "utf-8")
    partial.rename(target)


def _language_tokens(document: Any) -> Iterable[tuple[str, int]]:
    for token in (document.get("added_tokens") if isinstance(document, dict) else None) or ():
        if _TOKEN.fullmatch(str(token.get("content"))):
            yield token["content"], token["id"]


def read_languages(folder: Path) -> Languages:
    """What was settled. Raises Refused."""
    try:
        tokens = read_json(folder / ".converted" / _SETTLED, MAX_JSON_BYTES)
    except FileNotFoundError:
        raise Refused("tokenizer.json", "its languages weren't looked for") from None
    ids: dict[str, int] = {}
    written: dict[str, str] = {}
    for token, index in tokens.items():
        found = _TOKEN.fullmatch(token)
        if found and found[3]:
            written[found[3]] = token
        elif found:
            ids[found[1] or found[2]] = index
    return Languages(ids, written)
