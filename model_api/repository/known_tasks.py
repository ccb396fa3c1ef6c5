"""The tasks that this release can serve. A new one is a module in tasks/ and its line here.

Stdlib only, Python 3.9: it tells authors what they may publish, without importing any task.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_api.repository.generation_settings import judge_generation
from model_api.repository.model_config import has_own_encoder, is_encoder_decoder, judge_config, named_architecture
from model_api.repository.problem import Problem
from model_api.repository.safetensors_header import Tensor

_COMMON_OPTIONS = ("max_batch_tokens", "max_tokens", "precision", "truncate", "unload_first")


@dataclass(frozen=True)
class KnownTask:
    """`module` lies in model_api/tasks. A folder whose config.json names an architecture that ends in one of
    `architectures` is taken for this task, unless its author names one; none will do that doesn't end in
    one of `needs_architecture`.
    `own_options` are what a manifest may carry for it beside the common ones; the task's Options says of what type.
    `decodes`: its model generates text. `converts`: loading makes a second copy. `takes`: types of uploads that a job
    of this task works on; such a model reads no text, and needs no tokenizer. `packages`: what loading it needs beside
    what every model does."""

    module: str
    architectures: tuple[str, ...] = ()
    own_options: tuple[str, ...] = ()
    needs_architecture: str | tuple[str, ...] = ""
    decodes: bool = False
    converts: bool = False
    takes: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def is_inferred_from(self, architecture: str) -> bool:
        head = "LMHead" in architecture and self.architectures != DECODERS
        return bool(self.architectures) and architecture.endswith(self.architectures) and not head

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(sorted((*_COMMON_OPTIONS, *self.own_options)))


DECODERS = ("ForCausalLM", "GPT2LMHeadModel")
_SUMMARIZERS = tuple(f"{family}ForConditionalGeneration" for family in ("Bart", "LED", "Pegasus", "PegasusX", "T5"))
_ENCODER_DECODERS = ("ForConditionalGeneration", "MarianMTModel", "EncoderDecoderModel")

TASKS: Mapping[str, KnownTask] = {
    "text-classification": KnownTask(
        "text.text_classification",
        ("ForSequenceClassification",),
        ("int8_min_cosine", "labels", "normalize_tweets", "pairs"),
        needs_architecture="ForSequenceClassification",
    ),
    "reranking": KnownTask(
        "text.reranking", (), ("activation", "int8_min_cosine"), needs_architecture="ForSequenceClassification"
    ),
    "token-classification": KnownTask(
        "text.token_classification",
        ("ForTokenClassification",),
        ("aggregation_strategy", "int8_min_cosine", "labels"),
        needs_architecture="ForTokenClassification",
    ),
    "question-answering": KnownTask(
        "text.question_answering",
        ("ForQuestionAnswering",),
        ("handle_impossible_answer", "int8_min_cosine"),
        needs_architecture="ForQuestionAnswering",
    ),
    "zero-shot-classification": KnownTask(
        "text.zero_shot_classification",
        (),
        ("candidate_labels", "hypothesis_template", "int8_min_cosine", "labels"),
        needs_architecture="ForSequenceClassification",
    ),
    "fill-mask": KnownTask("text.fill_mask", (), ("int8_min_cosine",), needs_architecture="ForMaskedLM"),
    "feature-extraction": KnownTask("text.feature_extraction", (), ("int8_min_cosine",)),
    "summarization": KnownTask(
        "text.summarization",
        (*_SUMMARIZERS, "EncoderDecoderModel"),
        ("engine", "generation", "long_input", "prefix"),
        needs_architecture=_ENCODER_DECODERS,
        decodes=True,
        converts=True,
    ),
    "translation": KnownTask(
        "text.translation",
        ("MarianMTModel", "M2M100ForConditionalGeneration", "NllbMoeForConditionalGeneration"),
        ("engine", "generation", "prefix", "src_lang", "tgt_lang"),
        needs_architecture=_ENCODER_DECODERS,
        decodes=True,
        converts=True,
    ),
    "text-generation": KnownTask(
        "text.text_generation",
        DECODERS,
        ("engine", "generation"),
        needs_architecture=DECODERS,
        converts=True,
    ),
    "embedding": KnownTask(
        "text.embedding", ("Model", "ForMaskedLM", "ForPreTraining"), ("int8_min_cosine", "normalize", "pooling")
    ),
    "extractive-summarization": KnownTask(
        "text.extractive_summarization", (), ("int8_min_cosine", "max_sentences", "pooling")
    ),
    "video-regression": KnownTask(
        "video.regression",
        ("ForVideoRegression",),
        ("content_class", "content_minimum", "score_factor"),
        needs_architecture="ForVideoRegression",
        takes=("video/mp4", "video/quicktime", "video/x-msvideo"),
        packages=("av",),
    ),
}


def reads_text(config: Any) -> bool:
    """Whether a model of that config.json reads text, and so needs a tokenizer."""
    architecture = named_architecture(config) if isinstance(config, dict) else ""
    return not any(task.takes and architecture.endswith(task.architectures) for task in TASKS.values())


def judge_task(
    name: str,
    config: Mapping[str, Any],
    tensors: Sequence[Tensor],
    options: Mapping[str, Any],
    has_modules: bool,
    generation: Any = None,
) -> Iterator[Problem]:
    """What is wrong with serving a model of that config and those tensors as `name`, with those options; `has_modules`
    says that sentence-transformers saved it; `generation` is its generation_config.json, where there is one."""
    if name not in TASKS:
        yield Problem("", f"unknown task {name!r}{did_you_mean(name, TASKS)}; known: {', '.join(sorted(TASKS))}")
        return
    task = TASKS[name]
    for option in options:
        if option not in task.options:
            known = f"{name} knows: {', '.join(task.options)}"
            yield Problem("", f"unknown option {option!r}{did_you_mean(option, task.options)}; {known}")
    architecture = named_architecture(config)
    needed, whole = task.needs_architecture, is_encoder_decoder(config)
    told = ""
    if task.decodes and not whole:
        told = f"{architecture or 'this'} is an encoder alone, which is no model for {name}"
    elif needed and architecture and not architecture.endswith(needed):
        wanted = needed if isinstance(needed, str) else " or ".join(needed)
        told = f"{architecture} is no model for {name}, which needs one {wanted}"
    elif not task.decodes and not needed and whole and not has_modules and not has_own_encoder(config):
        told = f"{architecture or 'this'} is an encoder with a decoder, which is no model for {name}"
    if told:
        yield Problem("config.json", told)
    yield from judge_config(config)
    if task.decodes and whole:
        yield from judge_generation(generation, config)
    if "labels" in task.own_options:
        yield from _judge_labels(name, config, tensors, options)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


_HEADS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")


# A label of a token is all that there is to an answer; a hypothesis is judged by one output of a model of inference.
NO_LABELS = 'it names no labels (id2label); publish with --option labels=["O", ...], in the order of the outputs'
NO_ENTAILMENT = (
    "its labels ({}) don't say which of them is entailment, so it is no model of inference; if it is one, name its"
    " outputs with --option labels=[...]"
)


def _names_entailment(config: Mapping[str, Any]) -> bool:
    names, places = config.get("id2label"), config.get("label2id")
    given = [*(names.values() if isinstance(names, dict) else ()), *(places if isinstance(places, dict) else ())]
    return any(str(name).lower().startswith("entail") for name in given)


def _judge_labels(
    task: str, config: Mapping[str, Any], tensors: Sequence[Tensor], options: Mapping[str, Any]
) -> Iterator[Problem]:
    """Do the names of the classes fit the head's outputs, and say what the task must know?"""
    outputs = next((t.shape[0] for t in tensors if t.name in _HEADS and t.shape), None)
    names, labels = config.get("id2label"), options.get("labels")
    if labels is None and task == "token-classification" and names is None:
        yield Problem("config.json", NO_LABELS)
    if labels is None and task == "zero-shot-classification" and not _names_entailment(config):
        shown = ", ".join(str(name)[:40] for name in list(names.values())[:5]) if isinstance(names, dict) else "none"
        yield Problem("config.json", NO_ENTAILMENT.format(shown))
    if isinstance(labels, list) and outputs not in (None, len(labels)):
        yield Problem("", f"option labels names {len(labels)} classes, the model has {outputs} outputs")
    if labels is None and isinstance(names, dict) and outputs not in (None, len(names)):
        yield Problem("config.json", f"id2label names {len(names)} classes, the model has {outputs} outputs")


def memory_bytes(tensors: Sequence[Tensor], task: str) -> int:
    """Estimated peak while loading: the weights as they lie in the file, plus a prepacked float32-sized copy of every
    matrix but the embedding tables (those stay mapped), plus 64 MiB for what any process group needs.

    A network that sees videos has no such matrices to speak of: a copy of everything in the type that computes, and
    512 MiB of activations. Where the task converts, the peak is the conversion: a float32-sized copy of everything, and
    256 MiB for the converter itself.
    """
    stored = sum(t.n_bytes for t in tensors)
    if task in TASKS and TASKS[task].converts:
        return stored + sum(4 * math.prod(t.shape) for t in tensors) + 256 * 2**20
    if task in TASKS and TASKS[task].takes:
        return 2 * stored + 512 * 2**20
    matrices = [t for t in tensors if len(t.shape) == 2 and "embed" not in t.name and "shared" not in t.name]
    return stored + sum(4 * t.shape[0] * t.shape[1] for t in matrices) + 64 * 2**20
