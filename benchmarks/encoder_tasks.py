"""Tasks on an encoder, texts per second of one thread: ours against transformers' pipelines, in turns.

The models have all-MiniLM-L6-v2's size and tokenizer and random weights (none are needed for time). Both tokenise,
compute in float32 and put answers together; the pipeline is given one text at a time and eight, and the faster counts.
`python -m benchmarks.encoder_tasks ROUNDS` prints a row per task: texts/s of both, and the median ratio of the rounds.
"""

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environments import BUILD
from model_api.processes.model_side.accuracy import sample_texts
from tests.rigs.asking import Asked
from tests.rigs.models import minilm_folder

TEXTS = sample_texts()
MASKED = [f"{text[:400]} [MASK]" for text in TEXTS]
LABELS = ["travel", "the economy", "cooking"]
# task -> transformers' class, the texts, our parameters, the pipeline's
CASES: Mapping[str, tuple[str, Sequence[str], Mapping[str, Any], Mapping[str, Any]]] = {
    "token-classification": (
        "BertForTokenClassification",
        TEXTS,
        {"aggregation_strategy": "simple"},
        {"aggregation_strategy": "simple"},
    ),
    "zero-shot-classification": (
        "BertForSequenceClassification",
        TEXTS,
        {"candidate_labels": LABELS},
        {"candidate_labels": LABELS},
    ),
    "fill-mask": ("BertForMaskedLM", MASKED, {}, {"tokenizer_kwargs": {"truncation": True}}),
}


def folder_of(model_class: str) -> Path:
    """A Hugging Face folder, made once."""
    import torch
    import transformers

    folder = BUILD / "encoder-tasks" / model_class
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        labels = ["contradiction", "neutral", "entailment"]
        names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        config = transformers.BertConfig.from_pretrained(minilm_folder(), **names)
        getattr(transformers, model_class)(config).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            if (minilm_folder() / name).exists():
                shutil.copyfile(minilm_folder() / name, folder / name)
    return folder


def seconds_of(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(task: str, rounds: int) -> tuple[float, float, float]:
    """Texts per second of ours and of the pipeline, and the median ratio."""
    import transformers

    model_class, texts, ours, theirs = CASES[task]
    folder = folder_of(model_class)
    asked = Asked(task, folder)
    pipe = transformers.pipeline(task, str(folder), device="cpu", dtype="float32")

    def by_pipeline(size: int) -> list[Any]:
        return list(pipe(list(texts), batch_size=size, **theirs))

    def by_us() -> list[Any]:
        return asked(texts, {"truncate": True, **ours})

    assert len(by_us()) == len(by_pipeline(1)) == len(texts)
    size = min((1, 8), key=lambda size: seconds_of(lambda: by_pipeline(size)))
    turns = [(seconds_of(by_us), seconds_of(lambda: by_pipeline(size))) for _ in range(rounds)]
    rates = [len(texts) / statistics.median(turn[side] for turn in turns) for side in (0, 1)]
    return rates[0], rates[1], statistics.median(b / a for a, b in turns)


def main(rounds: int) -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print(f"| {len(TEXTS)} texts, one thread | ours, texts/s | pipeline, texts/s | ratio |\n|---|---|---|---|")
    for task in CASES:
        ours, theirs, ratio = measure(task, rounds)
        print(f"| {task} | {ours:.0f} | {theirs:.0f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
