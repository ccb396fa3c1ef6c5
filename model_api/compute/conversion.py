"""A sequence-to-sequence model converted for CTranslate2, beside its verified copy in the local store.

The conversion is keyed by the folder it lies in (the digest's) and its own name, which holds the converter's version
and the weights' type; it is made once per instance and leaves with the digest. Model side only, but for what the web
process asks before a load: how much memory it will take.
"""

import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from model_api.errors import Refused

TYPES = ("int8", "float32")
FORMAT = 2  # of what this module makes of a conversion; raised with any change here
# Beside the converted weights while they are loaded and tried: measured 190 MB for a T5-small with 8 x 512 tokens.
_LOADING_BYTES = 256 * 2**20


def conversion_path(folder: Path, weights: str) -> Path:
    """Where the conversion of the model in `folder` lies once it is made."""
    return folder / ".converted" / f"ctranslate2-{version('ctranslate2')}-{FORMAT}-{weights}"


def loading_bytes(folder: Path, weights: str) -> int | None:
    """The peak of loading a conversion that is there already; None where there is none. Any process."""
    try:
        return (conversion_path(folder, weights) / "model.bin").stat().st_size + _LOADING_BYTES
    except OSError:
        return None


def is_converted(folder: Path, weights: str) -> bool:
    return conversion_path(folder, weights).is_dir()


def why_not_convertible(folder: Path, weights: str) -> str:
    """What kept CTranslate2 from converting it; "" unless that was tried in vain."""
    try:
        return _marker(folder, weights).read_text("utf-8")
    except FileNotFoundError:
        return ""


def _marker(folder: Path, weights: str) -> Path:
    path = conversion_path(folder, weights)
    return path.with_name(f"{path.name}.not")


def convert(folder: Path, weights: str) -> None:
    """Convert the model in `folder`, or note why CTranslate2 can't, so that transformers serves it. Raises Refused
    where its weights aren't whole, and what is the machine's own: OSError, MemoryError.

    In a process that ends afterwards: it takes the memory of transformers' copy, and starts threads.
    """
    target = conversion_path(folder, weights)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(exist_ok=True)
    try:
        _convert(folder, partial, weights)
        partial.rename(target)
    except (Refused, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            if target.is_dir():  # another process was quicker; its conversion is the same
                return
            raise
        reason = str(error).split(" (supported", maxsplit=1)[0][:300]
        note = target.with_name(partial.name + ".not")
        note.write_text(f"CTranslate2 can't convert it ({type(error).__name__}: {reason})", "utf-8")
        note.rename(_marker(folder, weights))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Ids:
    """Stands in for the tokenizer of a model with `rows` tokens: a token's name is its id, which is what lanes get and
    give. Names may occur twice, and a table may have more rows than there are names."""

    special_tokens_map: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: Any, rows: int) -> None:
        self._names = [str(index) for index in range(rows)]
        if config.model_type == "marian":
            self._names[-1] = "<pad>"  # which the converter takes out, by this name
        self.eos_token, self.pad_token = str(_first(config.eos_token_id)), str(config.pad_token_id)
        self.bos_token = self.unk_token = self.eos_token

    def get_vocab(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self._names)}

    def convert_ids_to_tokens(self, index: int) -> str:
        return str(index)


def _first(ids: Any) -> int:
    return int(ids[0] if isinstance(ids, list) else ids)


def _convert(folder: Path, target: Path, weights: str) -> None:
    from ctranslate2.converters import TransformersConverter
    from ctranslate2.specs.model_spec import OPTIONAL

    from model_api.compute.transformers_encoder import check_notes

    class Converter(TransformersConverter):  # type: ignore[misc]
        """CTranslate2 4.8.5 reads T5's output scaling from `tie_word_embeddings`, which transformers 5 sets for every
        T5; wrongly scaled logits leave greedy search as it was, and spoil beams and samples. And it reads where norms
        stand from keys of config.json that transformers 5 neither reads nor writes."""

        def load_model(self, model_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
            how = {"output_loading_info": True, "local_files_only": True, "use_safetensors": True}
            self.model, notes = model_class.from_pretrained(model_name_or_path, **how, **kwargs)
            check_notes(notes, self.model, with_head=True)
            _check_family(self.model)
            norms = _NORMS.get(self.model.config.model_type)
            if norms is not None:
                self.model.config.normalize_before, self.model.config.normalize_embedding = norms
            return self.model

        def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
            return _Ids(self.model.config, self.model.get_input_embeddings().num_embeddings)

        def _load(self) -> Any:
            spec, config = super()._load(), self.model.config
            if hasattr(config, "scale_decoder_outputs"):
                spec.decoder.scale_outputs = config.d_model**-0.5 if config.scale_decoder_outputs else OPTIONAL
            spec.config.decoder_start_token = None  # the first of each row's prefix
            return spec

    Converter(str(folder)).convert(str(target), quantization=weights)
    for path in target.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


_FAMILIES = frozenset({"bart", "mbart", "pegasus", "marian", "m2m_100", "t5", "mt5", "umt5"})
# Do norms stand before what they norm, and is there one of the embeddings? Of those whose loader asks config.json.
_NORMS = {"bart": (False, True), "mbart": (True, True), "pegasus": (True, False)}


def _check_family(model: Any) -> None:
    """Raises ValueError for what the converter takes without a word, and makes something else of."""
    config = model.config
    if not config.is_encoder_decoder:
        return
    if config.model_type not in _FAMILIES:
        raise ValueError(f"{config.model_type} isn't among the families that were compared with transformers")
    if config.model_type == "marian":
        table = model.get_input_embeddings().weight
        shared = config.share_encoder_decoder_embeddings and config.tie_word_embeddings
        if config.pad_token_id != len(table) - 1 or bool(table[-1].any()) or not shared:
            raise ValueError("a Marian whose padding token isn't the last, of zeros, or with two vocabularies")
