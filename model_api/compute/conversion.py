"""A sequence-to-sequence model converted for CTranslate2, beside its verified copy in the local store.

The conversion is keyed by the folder it lies in (the digest's) and its own name, which holds the converter's version
and the weights' type; it is made once per instance and leaves with the digest. Model side only, but for what the web
process asks before a load: how much memory it will take.
"""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model_api.errors import LoadFailed

TYPES = ("int8", "float32")
FORMAT = 1  # of what this module makes of a conversion; raised with any change here
# Beside the converted weights while they are loaded and tried: measured 190 MB for a T5-small with 8 x 512 tokens.
_LOADING_BYTES = 256 * 2**20
_SPECIAL = ("bos_token", "eos_token", "unk_token", "decoder_start_token")


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


def is_convertible(folder: Path, weights: str) -> bool:
    """False once a conversion found that CTranslate2 doesn't know the architecture."""
    return not _unknown_marker(folder, weights).exists()


def _unknown_marker(folder: Path, weights: str) -> Path:
    path = conversion_path(folder, weights)
    return path.with_name(f"{path.name}.unknown")


def convert(folder: Path, weights: str) -> None:
    """Convert the model in `folder`, or note that CTranslate2 doesn't know its architecture. Raises LoadFailed.

    In a process that ends afterwards: it takes the memory of transformers' copy, and starts threads.
    """
    target = conversion_path(folder, weights)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(exist_ok=True)
    try:
        _convert(folder, partial, weights)
        partial.rename(target)
    except ValueError as error:
        if "No conversion is registered" not in str(error):
            raise LoadFailed(f"converting for CTranslate2 failed ({error})") from error
        _unknown_marker(folder, weights).touch()
    except OSError:  # another process was quicker; its conversion is the same
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert(folder: Path, target: Path, weights: str) -> None:
    """Tokens are renamed to their ids, which is what lanes get and give: names may occur twice."""
    from ctranslate2.converters import TransformersConverter
    from ctranslate2.specs.model_spec import OPTIONAL
    from transformers import AutoConfig

    from model_api.compute.transformers_encoder import check_notes

    class Converter(TransformersConverter):  # type: ignore[misc]
        """CTranslate2 4.8.5 reads T5's output scaling from `tie_word_embeddings`, which transformers 5 sets for every
        T5; wrongly scaled logits leave greedy search as it was, and spoil beams and samples."""

        def load_model(self, model_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
            model, notes = model_class.from_pretrained(model_name_or_path, output_loading_info=True, **kwargs)
            check_notes(notes, model, with_head=True)
            return model

        def _load(self) -> Any:
            spec = super()._load()
            config = AutoConfig.from_pretrained(folder)
            if hasattr(config, "scale_decoder_outputs"):
                spec.decoder.scale_outputs = config.d_model**-0.5 if config.scale_decoder_outputs else OPTIONAL
            return spec

    Converter(str(folder)).convert(str(target), quantization=weights)
    vocabulary: list[str] = json.loads((target / "shared_vocabulary.json").read_text())
    config: dict[str, Any] = json.loads((target / "config.json").read_text())
    config |= {name: str(vocabulary.index(config[name])) for name in _SPECIAL if config.get(name) is not None}
    (target / "config.json").write_text(json.dumps(config))
    (target / "shared_vocabulary.json").write_text(json.dumps([str(i) for i in range(len(vocabulary))]))
    for path in target.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
