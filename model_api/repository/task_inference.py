"""Which task a model was made for: from all that its folder says, never from one file.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from model_api.errors import Refused
from model_api.repository.known_tasks import TASKS
from model_api.repository.model_config import has_own_encoder, is_encoder_decoder, named_architecture
from model_api.repository.safetensors_header import Tensor
from model_api.repository.sentence_modules import MODULES_FILE, SETTINGS_FILE, ReadJson, model_kind

SETFIT_FILE = "config_setfit.json"
# Trained to summarise, or to translate: their folders don't tell.
_EITHER = frozenset({"MBartForConditionalGeneration", "PLBartForConditionalGeneration"})
_DECODERS = ("gpt", "llama", "mistral", "qwen", "gemma", "phi", "opt", "bloom", "falcon", "vit", "clip", "whisper")
# The layers that a head is made of, beside the encoder in the file.
_HEADS = ("classifier.", "pre_classifier.", "classification_head.", "score.", "qa_outputs.", "logits_proj.")


def infer_task(paths: Collection[str], read_json: ReadJson, tensors: Sequence[Tensor] = ()) -> str:
    """The task that a model's own files speak of. Raises Refused where they don't say, or name what isn't served."""
    if SETFIT_FILE in paths:
        raise Refused(
            SETFIT_FILE,
            "a SetFit model: its classifier is a pickle, without which it answers nothing it was trained for. Train the"
            " head as a model of its own (AutoModelForSequenceClassification), or publish the encoder alone with"
            " --task embedding",
        )
    config = read_json("config.json") if "config.json" in paths else None
    kind = model_kind(paths, read_json)
    if kind not in ("", "SentenceTransformer", "CrossEncoder"):
        raise Refused(SETTINGS_FILE, f"a {kind} of sentence-transformers: no task of this release serves it")
    if kind == "CrossEncoder" or _is_old_cross_encoder(config):
        return "reranking"
    if MODULES_FILE in paths:
        return "embedding"
    return _by_architecture(config if isinstance(config, dict) else {}, tensors)


def _is_old_cross_encoder(config: Any) -> bool:
    """Releases before 6 wrote no modules.json, but their activation into config.json."""
    return isinstance(config, dict) and (
        "sbert_ce_default_activation_function" in config or isinstance(config.get("sentence_transformers"), dict)
    )


def _by_architecture(config: Mapping[str, Any], tensors: Sequence[Tensor]) -> str:
    architecture = named_architecture(config)
    family = str(config.get("model_type") or "").lower()
    decodes = family.startswith(_DECODERS)  # generates, classifies: but its states are no embeddings as they are
    if architecture in _EITHER:
        raise Refused("config.json", f"{architecture} may summarise or translate: name the task with --task")
    if architecture:
        known = next((name for name, task in TASKS.items() if task.is_inferred_from(architecture)), "")
        whole = known == "embedding" and is_encoder_decoder(config) and not architecture.endswith("EncoderModel")
        if whole:
            told = f"{architecture} is an encoder with a decoder, and has no head that says what for"
            mend = "; --task embedding serves its encoder" if has_own_encoder(config) else ""
            raise Refused("config.json", told + mend)
        if known and not (decodes and known == "embedding"):
            return known
    elif family and not decodes:
        head = next((tensor.name for tensor in tensors if tensor.name.startswith(_HEADS)), "")
        if head or is_encoder_decoder(config):
            what = f"there is a head ({head})" if head else "it has a decoder"
            raise Refused("config.json", f"it names no architecture, and {what}: name the task with --task")
        return "embedding"
    raise Refused(
        "config.json",
        f"no task is known for architecture {architecture or '(none)'}; tasks: {', '.join(sorted(TASKS))}",
    )
