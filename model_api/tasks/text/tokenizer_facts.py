"""What a model's own library knows of its tokenizer beside what tokenizer.json says: the class's special tokens.

A child of the leader's writes it down beside the verified copy; the web process, which never imports the library, reads
it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import read_json
from model_api.tasks.text.settled_tokenizer import library_tokenizer

_FILE = "tokenizer-facts-1.json"


@dataclass(frozen=True)
class TokenizerFacts:
    """Ids of special tokens, None where the class names none. `marks_subwords`: pieces that go on a word say so."""

    unknown_id: int | None
    cls_id: int | None
    padding_id: int | None
    mask_id: int | None
    mask_token: str
    marks_subwords: bool
    cleans_up: bool  # spaces before punctuation are taken out of what it decodes


def write_facts(root: Path) -> None:
    """Write down what holds for the tokenizer in `root`, once that is settled. In a process that ends afterwards.
    Raises Refused; OSError."""
    path = root / ".converted" / _FILE
    if path.exists():
        return
    made = library_tokenizer(root)
    inner = made.backend_tokenizer.model
    facts = TokenizerFacts(
        unknown_id=made.unk_token_id,
        cls_id=made.cls_token_id,
        padding_id=made.pad_token_id,
        mask_id=made.mask_token_id,
        mask_token=str(made.mask_token or ""),
        marks_subwords=bool(getattr(inner, "continuing_subword_prefix", None)),
        cleans_up=bool(made.clean_up_tokenization_spaces) and type(inner).__name__ != "BPE",
    )
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(asdict(facts)))
    partial.rename(path)


def read_facts(root: Path) -> TokenizerFacts:
    """What was written down. Any process. Raises Refused where nothing was."""
    try:
        document: Any = read_json(root / ".converted" / _FILE, 2**20)
        return TokenizerFacts(**document)
    except (FileNotFoundError, TypeError) as error:
        raise Refused("tokenizer.json", "what its library knows of it wasn't written down") from error
