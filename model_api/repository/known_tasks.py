"""The tasks that this release can serve. A new one is a module in tasks/ and its line here.

Stdlib only, Python 3.9: it tells authors what they may publish, without importing any task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_api.errors import Refused
from model_api.repository.safetensors_header import Tensor

_DECODERS = ("gpt", "llama", "mistral", "qwen", "gemma", "phi", "opt", "bloom", "falcon", "vit", "clip", "whisper")


@dataclass(frozen=True)
class KnownTask:
    """`module` lies in model_api/tasks. A folder whose config.json names an architecture that ends in one of
    `architectures` is taken for this task, unless its author names one. `converts`: loading makes a second copy."""

    module: str
    architectures: tuple[str, ...] = ()
    converts: bool = False


TASKS: Mapping[str, KnownTask] = {
    "text-classification": KnownTask("text.text_classification", ("ForSequenceClassification",)),
    "summarization": KnownTask("text.summarization", ("T5ForConditionalGeneration",), converts=True),
    "embedding": KnownTask("text.embedding", ("Model", "ForMaskedLM", "ForPreTraining")),
    "extractive-summarization": KnownTask("text.extractive_summarization"),
}


def infer_task(config: Any, has_modules: bool) -> str:
    """The task that a model's own files speak of: `config` is its config.json, `has_modules` says that a modules.json
    of sentence-transformers lies beside it. Raises Refused where they don't say."""
    if has_modules:
        return "embedding"
    architectures = config.get("architectures") if isinstance(config, dict) else None
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    family = str(config.get("model_type", "")).lower() if isinstance(config, dict) else ""
    decodes = family.startswith(_DECODERS)  # generates, classifies: but its states are no embeddings as they are
    for name, task in TASKS.items():
        if architecture.endswith(task.architectures) and not (decodes and name == "embedding"):
            return name
    if family and not architecture and not decodes:
        return "embedding"
    raise Refused(
        "config.json",
        f"no task is known for architecture {architecture or '(none)'}; tasks: {', '.join(sorted(TASKS))}",
    )


def memory_bytes(tensors: Sequence[Tensor], task: str) -> int:
    """Estimated peak while loading: the weights as they lie in the file, plus a prepacked float32-sized copy of every
    matrix but the embedding tables (those stay mapped), plus 64 MiB for what any process group needs.

    Where the task converts, the peak is the conversion: a float32-sized copy of everything, and 256 MiB for the
    converter itself.
    """
    stored = sum(t.n_bytes for t in tensors)
    if task in TASKS and TASKS[task].converts:
        return stored + sum(4 * math.prod(t.shape) for t in tensors) + 256 * 2**20
    matrices = [t for t in tensors if len(t.shape) == 2 and "embed" not in t.name and "shared" not in t.name]
    return stored + sum(4 * t.shape[0] * t.shape[1] for t in matrices) + 64 * 2**20
