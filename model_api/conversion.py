"""A sequence-to-sequence model converted for CTranslate2, beside its verified copy in the local store.

The conversion is keyed by the folder it lies in (the digest's) and its own name, which holds the converter's version
and the weights' type; it is made once per instance and leaves with the digest. Model side only, but for what the web
process asks before a load: how much memory it will take.
"""

import json
import os
import shutil
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model_api.errors import LoadFailed

TYPES = ("int8", "float32")
FORMAT = 1  # of what this module makes of a conversion; raised with any change here
# Beside the converted weights while they are loaded and tried: measured 190 MB for a T5-small with 8 x 512 tokens.
_LOADING_BYTES = 256 * 2**20
_SPECIAL = ("bos_token", "eos_token", "unk_token", "decoder_start_token")


class NotConvertible(Exception):
    """CTranslate2 doesn't know the architecture; transformers may."""


def conversion_path(folder: Path, weights: str) -> Path:
    """Where the conversion of the model in `folder` lies once it is made."""
    return folder / ".converted" / f"ctranslate2-{version('ctranslate2')}-{FORMAT}-{weights}"


def loading_bytes(folder: Path, weights: str) -> int | None:
    """The peak of loading a conversion that is there already; None where there is none. Any process."""
    try:
        return (conversion_path(folder, weights) / "model.bin").stat().st_size + _LOADING_BYTES
    except OSError:
        return None


def converted_folder(folder: Path, weights: str) -> Path:
    """The conversion of the model in `folder`, made now unless it is there. Raises NotConvertible, LoadFailed.

    It runs in a process of its own: the memory of transformers' copy returns, and this process stays fit to fork.
    """
    from model_api.forking import fork_child

    target = conversion_path(folder, weights)
    if target.is_dir():
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(exist_ok=True)
    pid = fork_child(lambda: _convert(folder, partial, weights))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        if status == _UNKNOWN_ARCHITECTURE:
            raise NotConvertible(f"CTranslate2 {version('ctranslate2')} can't convert this architecture")
        if status != 0:
            raise LoadFailed(f"converting for CTranslate2 ended with status {status} (out of memory?)")
        try:
            partial.rename(target)
        except OSError:  # another process was quicker; its conversion is the same
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


_UNKNOWN_ARCHITECTURE = 3


def _convert(folder: Path, target: Path, weights: str) -> None:
    """In the child. Tokens are renamed to their ids, which is what lanes get and give: names may occur twice."""
    from ctranslate2.converters import TransformersConverter
    from ctranslate2.specs.model_spec import OPTIONAL
    from transformers import AutoConfig

    class Converter(TransformersConverter):  # type: ignore[misc]
        """CTranslate2 4.8.5 reads T5's output scaling from `tie_word_embeddings`, which transformers 5 sets for every
        T5; wrongly scaled logits leave greedy search as it was, and spoil beams and samples."""

        def _load(self) -> Any:
            spec = super()._load()
            config = AutoConfig.from_pretrained(folder)
            if hasattr(config, "scale_decoder_outputs"):
                spec.decoder.scale_outputs = config.d_model**-0.5 if config.scale_decoder_outputs else OPTIONAL
            return spec

    try:
        Converter(str(folder)).convert(str(target), quantization=weights)
    except ValueError as error:
        traceback.print_exc(file=sys.stderr)
        os._exit(_UNKNOWN_ARCHITECTURE if "No conversion is registered" in str(error) else 1)
    vocabulary: list[str] = json.loads((target / "shared_vocabulary.json").read_text())
    config: dict[str, Any] = json.loads((target / "config.json").read_text())
    config |= {name: str(vocabulary.index(config[name])) for name in _SPECIAL if config.get(name) is not None}
    (target / "config.json").write_text(json.dumps(config))
    (target / "shared_vocabulary.json").write_text(json.dumps([str(i) for i in range(len(vocabulary))]))
    for path in target.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
