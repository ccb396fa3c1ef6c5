"""The tokenizer that a model's own library makes of its folder: as tokenizer.json where that is plainly the same, else
written once beside the verified copy by transformers itself.

`settle` is for a process that ends afterwards: it may import transformers, which takes seconds.
"""

import json
import math
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import read_json
from model_api.repository.known_tasks import reads_text
from model_api.repository.loaded_files import MAX_JSON_BYTES, TOKENIZER_FILE, reader_of
from model_api.repository.safetensors_header import read_tensors
from model_api.repository.sentence_modules import read_modules
from model_api.tasks.text.tokenizer_agreement import is_plain

_MAX_CONFIG_BYTES = 4 * 2**20
# What both must make the same of: capitals, accents, other scripts, spaces, special tokens, nothing.
_SAMPLES = (
    "The Quick brown fox, naïve café Ünïcödé",
    "東京の人 привет مرحبا",
    "  two  spaces\tand\nlines ",
    "1,234.56 🙂 x don't stop -- it's 100% \u00a0\u200bOK ﬁ ½ Å ﷺ",
    "<s>[CLS]</s> [SEP] <pad> [MASK]",
    "",
)


@cache
def _release() -> str:
    return version("transformers")


def settled_file(root: Path) -> Path:
    """The tokenizer of the transformer in `root`: what was settled, else its own tokenizer.json. Any process."""
    settled = _settled(root)
    return settled if settled.exists() else root / TOKENIZER_FILE


def _settled(root: Path) -> Path:
    return root / ".converted" / f"tokenizer-{_release()}.json"


def settle(folder: Path) -> None:
    """See to it that `settled_file` answers as the model's own library. Raises Refused where that can't be, and for a
    tokenizer that gives ids beyond the model's table; OSError."""
    modules = read_modules(*reader_of(folder))
    root = folder / modules.transformer if modules else folder
    settled, own = _settled(root), root / TOKENIZER_FILE
    if modules and modules.static:
        shapes = (tensor.shape for tensor in read_tensors(root / "model.safetensors", "model.safetensors"))
        _check_ids(_parse(own), next((shape[0] for shape in shapes if shape), math.inf))
        return
    config = read_object(root / "config.json")
    if not reads_text(config):
        return
    document = _parse(settled) if settled.exists() else plain_document(root)
    if document is None:
        text = _by_the_library(root)
        settled.parent.mkdir(exist_ok=True)
        partial = settled.with_name(f"{settled.name}.{os.getpid()}")
        partial.write_text(text, "utf-8")
        partial.rename(settled)
        document = json.loads(text)
    rows = config.get("vocab_size")
    _check_ids(document, rows if isinstance(rows, int) else math.inf)


def plain_document(root: Path) -> dict[str, Any] | None:
    """The transformer's own tokenizer.json, where that is plainly what its library makes of the folder."""
    own = root / TOKENIZER_FILE
    if _settled(root).exists() or not own.exists() or (root / "added_tokens.json").exists():
        return None
    document = _parse(own)
    how, others = read_object(root / "tokenizer_config.json"), read_object(root / "special_tokens_map.json")
    plain = isinstance(document, dict) and is_plain(document, how, read_object(root / "config.json"), others)
    return document if plain else None


def _parse(path: Path) -> Any:
    return read_json(path, MAX_JSON_BYTES)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is no such file. Raises Refused."""
    document = read_json(path, _MAX_CONFIG_BYTES) if path.exists() else {}
    if not isinstance(document, dict):
        raise Refused(path.name, "not a JSON object")
    return document


def library_tokenizer(root: Path) -> Any:
    """transformers' own, in a process that ends afterwards. Raises Refused where it makes none."""
    if "AutoTokenizer" in (read_object(root / "tokenizer_config.json").get("auto_map") or {}):
        raise Refused("tokenizer_config.json", "its tokenizer is code of its own (auto_map), which is never run")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(root, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        told = f"transformers {_release()} makes no tokenizer of it ({type(error).__name__}: {str(error)[:300]})"
        raise Refused(TOKENIZER_FILE, told) from error


def _by_the_library(root: Path) -> str:
    """tokenizer.json as transformers makes it. Raises Refused where it can't, or where that isn't all of it."""
    from tokenizers import Tokenizer

    made = library_tokenizer(root)
    name, inner = type(made).__name__, getattr(made, "backend_tokenizer", None)
    if not isinstance(inner, Tokenizer):
        raise Refused(TOKENIZER_FILE, f"its class {name} is no tokenizer that can be written as tokenizer.json")
    alone = Tokenizer.from_str(inner.to_str())
    alone.no_padding()
    alone.no_truncation()
    for text in _SAMPLES:
        if list(made(text, truncation=False)["input_ids"]) != alone.encode(text).ids:
            raise Refused(TOKENIZER_FILE, f"its class {name} does more than a tokenizer.json can say")
    return str(alone.to_str())


def _check_ids(document: Any, rows: float) -> None:
    """What isn't a tokenizer at all is refused by who opens it."""
    model = document.get("model") if isinstance(document, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    found: list[tuple[Any, str]] = [(token.get("id"), str(token.get("content"))) for token in _added(document)]
    if isinstance(vocabulary, dict):
        found += [(index, token) for token, index in vocabulary.items()]
    elif isinstance(vocabulary, list) and vocabulary:
        found.append((len(vocabulary) - 1, str(vocabulary[-1])))
    index, token = max(((i, t) for i, t in found if isinstance(i, int)), default=(-1, ""))
    if index >= rows:
        why = f"it gives {token[:40]!r} the id {index}, but the model's table has {rows} rows"
        raise Refused(TOKENIZER_FILE, f"{why}: resize the table (resize_token_embeddings), or take the token out")


def _added(document: Any) -> list[dict[str, Any]]:
    listed = document.get("added_tokens") if isinstance(document, dict) else None
    return [token for token in listed if isinstance(token, dict)] if isinstance(listed, list) else []
