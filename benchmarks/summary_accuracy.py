"""What int8 costs in accuracy, on a T5 that has learnt its task: `python -m benchmarks.summary_accuracy [ITEMS]`.

Prints a Markdown table: int8 and float32 by CTranslate2 and float32 by transformers, on articles like those that it was
trained on, and on longer ones, of which it is less sure. None of them was seen in training. Trains the model first (see
trained_t5.py), unless that is done.
"""

import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

from benchmarks import trained_t5
from model_api.serving.text_scores import score_pair

SEARCHES = {"greedy": {"num_beams": 1}, "4 beams": {"num_beams": 4}}
ARTICLES = {"as in training": (2, 4), "longer": (10, 14)}  # sentences that don't matter


def summaries(articles: Sequence[str], search: dict[str, Any]) -> dict[str, list[str]]:
    """Of every kind of generation, in the articles' order."""
    from benchmarks.generation import conversions
    from model_api.compute.generation import CTranslate2Generator, Generator, Search, TransformersGenerator
    from model_api.repository.manifest import FileEntry, Manifest
    from model_api.tasks.contract import Limits
    from model_api.tasks.text.sequence_to_sequence import read_settings
    from model_api.tasks.text.summarization import TASK

    folder = trained_t5.model_folder()
    manifest = Manifest("t5", "1", "summarization", (FileEntry("-", 1, "0" * 64),), 1)
    web = TASK.open_web(folder, manifest, Limits(10**6))
    prepared = web.prepare(articles, search)
    converted = conversions(folder)
    generators: dict[str, Generator] = {"transformers float32": TransformersGenerator(folder)}
    for weights, path in converted.items():
        generators[f"CTranslate2 {weights}"] = CTranslate2Generator(path, weights, read_settings(folder))
    made = {}
    for name, generator in generators.items():
        rows = generator.generate(prepared.arrays, Search.of(prepared.parameters))
        made[name] = [prediction["text"] for prediction in web.finish(prepared, rows)]
    return made


def shares(found: Sequence[str], reference: Sequence[str], wanted: Sequence[str]) -> str:
    """The same as the reference, the same as wanted, and ROUGE-L with what is wanted."""
    same = sum(a == b for a, b in zip(found, reference, strict=True)) / len(found)
    right = sum(a == b for a, b in zip(found, wanted, strict=True)) / len(found)
    rouge = sum(score_pair(b, a)["rougeL"] for a, b in zip(found, wanted, strict=True)) / len(found)
    return f"{same:.1%} | {right:.1%} | {rouge:.4f}"


def main(n_items: int) -> None:
    import torch

    torch.set_num_threads(1)
    print("| articles | search | computed by | same as transformers | exactly right | ROUGE-L |")
    print("|---|---|---|---|---|---|")
    for kind, others in ARTICLES.items():
        articles, wanted = zip(*islice(trained_t5.pairs(trained_t5.HELD_OUT_SEED, others), n_items), strict=True)
        for search, parameters in SEARCHES.items():
            made = summaries(articles, parameters)
            for name, found in made.items():
                same = shares(found, made["transformers float32"], wanted)
                print(f"| {kind} | {search} | {name} | {same} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
