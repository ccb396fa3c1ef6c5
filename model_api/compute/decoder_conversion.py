"""A decoder converted for CTranslate2, beside its verified copy in the local store, where that computes it exactly.

CTranslate2 4.8.5 knows many families, and computes some of them otherwise than transformers 5 without a word (RoPE
scaled as in Llama 3, Gemma 2 and 3, activations). So a conversion is made in float32 first and asked for its logits:
what differs is served by transformers. In a process that ends afterwards: it takes memory, and starts threads.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from model_api.compute.conversion import conversion_path, is_converted
from model_api.errors import Refused

MAX_DIFFERENCE = 1e-3  # of the largest logit: a right conversion stays below 1e-5, a wrong one above 2e-2 (measured)
_TRIED_TOKENS = 256  # of the built-in sequence: long enough for what depends on distances
NOT_KNOWN = ".unknown"


def why_not_converted(folder: Path, weights: str) -> str | None:
    """Why an earlier conversion came to nothing; None where none did."""
    try:
        return _note(folder, weights).read_text()
    except FileNotFoundError:
        return None


def _note(folder: Path, weights: str) -> Path:
    path = conversion_path(folder, weights)
    return path.with_name(path.name + NOT_KNOWN)


def convert(folder: Path, weights: str) -> None:
    """Convert the decoder in `folder`, or note why CTranslate2 can't serve it. Raises Refused for weights that nobody
    can serve; OSError."""
    target = conversion_path(folder, weights)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(exist_ok=True)
    try:
        why = _convert(folder, partial, weights)
        if why:
            _note(folder, weights).write_text(why)
            return
        for path in partial.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        partial.rename(target)
    except OSError:  # another process was quicker; its conversion is the same
        if not is_converted(folder, weights):
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert(folder: Path, target: Path, weights: str) -> str:
    """Why not; "" if it is done."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    window, positions = getattr(config, "sliding_window", None), getattr(config, "max_position_embeddings", None)
    if window and (positions is None or window < positions):
        return f"it looks back {window} tokens alone (sliding_window), which CTranslate2 does otherwise"
    try:
        tried, wanted = _write(folder, target, "float32")
        got = _logits(target, tried)[:, : wanted.shape[1]]
    except (Refused, OSError, MemoryError):
        raise
    except Exception as error:  # what it doesn't know it tells by whatever goes wrong in it
        return f"CTranslate2 can't convert it ({type(error).__name__}: {str(error)[:200]})"
    difference = float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-30))
    if not difference <= MAX_DIFFERENCE:
        return f"CTranslate2 computes it otherwise than transformers (logits differ by {difference:.2g})"
    if weights != "float32":
        shutil.rmtree(target)
        _write(folder, target, weights)
    return ""


def _write(folder: Path, target: Path, weights: str) -> tuple[list[int], npt.NDArray[np.float32]]:
    """The built-in sequence of ids, and transformers' logits of it [n_tokens, vocabulary]."""
    import torch
    from ctranslate2.converters import TransformersConverter

    from model_api.compute.transformers_encoder import load_pretrained

    model, notes = load_pretrained("AutoModelForCausalLM", folder, "float32")
    check_decoder_notes(notes, model)
    rows = model.get_input_embeddings().num_embeddings
    length = min(_TRIED_TOKENS, _positions(model.config))
    tried = np.random.default_rng(1).integers(0, rows, length).tolist()
    with torch.inference_mode():
        wanted = model.eval()(input_ids=torch.tensor([tried])).logits[0].float().numpy()

    class Converter(TransformersConverter):  # type: ignore[misc]
        def load_model(self, *_: Any, **__: Any) -> Any:
            return model

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return _Ids(rows)

    Converter(str(folder)).convert(str(target), quantization=weights)
    return tried, wanted


def check_decoder_notes(notes: Mapping[str, Any], model: Any) -> None:
    """Raises Refused where a tensor is missing, or is read by no part."""
    from model_api.compute.transformers_encoder import check_notes

    check_notes(notes, model, with_head=True)


def _positions(config: Any) -> int:
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else _TRIED_TOKENS


class _Ids:
    """Stands in for the tokenizer: a token's name is its id, which is what lanes get and give."""

    special_tokens_map: ClassVar[Mapping[str, Any]] = {}
    bos_token = eos_token = unk_token = pad_token = "0"  # noqa: S105 - each request says which ids end it

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def get_vocab(self) -> dict[str, int]:
        return {str(index): index for index in range(self._rows)}

    def convert_ids_to_tokens(self, index: int) -> str:
        return str(index)


def _logits(converted: Path, ids: list[int]) -> npt.NDArray[np.float32]:
    import ctranslate2

    generator = ctranslate2.Generator(str(converted), device="cpu", compute_type="float32")
    found = np.array(generator.forward_batch([[str(i) for i in ids]]))
    return np.asarray(found[0], np.float32)
