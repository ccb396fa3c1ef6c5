"""Summaries per second of a T5-small, one thread: ours against transformers' generate, in one process and one run.

The weights are random (none are needed for time); every summary is made exactly NEW_TOKENS long. The conversion is
made beforehand. `python -m benchmarks.generation SECONDS` prints one JSON object, {case: {contender: summaries/s}}.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import BUILD
from model_api.compute.conversion import TYPES, conversion_path
from model_api.compute.generation import CTranslate2Generator, Search
from model_api.processes.model_side.trial import convert
from model_api.repository.manifest import FileEntry, Manifest
from model_api.tasks.text.sequence_to_sequence import read_settings
from model_api.tasks.text.summarization import TASK

NEW_TOKENS, INPUT_TOKENS = 48, 256
BATCHES, BEAMS = (1, 8), (1, 4)


def model_folder() -> Path:
    """A Hugging Face folder of T5-small's size, made once."""
    folder = BUILD / "t5-small-words"
    if not (folder / "tokenizer.json").exists():
        import torch
        import transformers
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit

        torch.manual_seed(0)
        config = transformers.T5Config(vocab_size=32128, decoder_start_token_id=0)
        transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
        words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(32125))])}
        by_word = Tokenizer(WordLevel(words, unk_token="<unk>"))
        by_word.pre_tokenizer = WhitespaceSplit()
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=by_word,
            pad_token="<pad>",
            eos_token="</s>",
            unk_token="<unk>",
        )
        tokenizer.save_pretrained(folder)
    return folder


def conversions(folder: Path) -> dict[str, Path]:
    """CTranslate2's form of the model in `folder`, by the weights' type. Forks: before anything starts threads."""
    manifest = Manifest("t5", "1", "summarization", (FileEntry("-", 1, "0" * 64),), 1)
    for precision in ("auto", "float32"):
        if TASK.needs_conversion(folder, manifest, precision):
            convert(TASK, folder, manifest, precision)
    return {weights: conversion_path(folder, weights) for weights in TYPES}


def per_second(summarise: Callable[[], Any], n: int, seconds: float) -> float:
    """Summaries per second, after one round that isn't counted."""
    summarise()
    rounds, began = 0, time.perf_counter()
    while rounds == 0 or time.perf_counter() - began < seconds:
        summarise()
        rounds += 1
    return rounds * n / (time.perf_counter() - began)


def main(seconds: float) -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    folder = model_folder()
    converted = conversions(folder)
    settings = read_settings(folder)
    ours = {weights: CTranslate2Generator(path, weights, settings, threads=1) for weights, path in converted.items()}
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    random = np.random.default_rng(0)
    found: dict[str, dict[str, float]] = {}
    for n in BATCHES:
        # Equal lengths: no time is lost on padding, which would be to our advantage.
        rows = [random.integers(10, 32000, INPUT_TOKENS, dtype=np.int32) for _ in range(n)]
        ids = torch.from_numpy(np.stack(rows).astype(np.int64))
        for beams in BEAMS:
            search = Search(beams, NEW_TOKENS, NEW_TOKENS, 1.0, 0, 1.0, None)

            def by_transformers(ids: torch.Tensor = ids, beams: int = beams) -> None:
                length = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS}
                with torch.inference_mode():
                    reference.generate(ids, num_beams=beams, do_sample=False, **length)

            case = found[f"batch {n}, beams {beams}"] = {"transformers": per_second(by_transformers, n, seconds)}
            for weights, generator in ours.items():

                def by_us(generator: Any = generator, rows: Any = rows, search: Search = search) -> None:
                    assert [len(row) for row in generator.generate(rows, search)] == [NEW_TOKENS] * len(rows)

                case[weights] = per_second(by_us, n, seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main(float(sys.argv[1]))
