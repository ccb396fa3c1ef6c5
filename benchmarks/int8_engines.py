"""int8 beside its alternatives, without a server: `python -m benchmarks.int8_engines [SECONDS]`.

Prints two Markdown tables of one core's processor time: this project in int8 and bfloat16 (or what auto means here) and
CTranslate2 in int8, on pooled vectors of the real all-MiniLM-L6-v2, and what each costs in accuracy. The engines take
turns, text by text, so that a busy machine slows all of them alike: read the ratios.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.environments import BUILD, ROOT
from benchmarks.weights import model_folder

OURS, AUTO, PEER = "int8", "auto", "CTranslate2 int8"
CASES = {
    "1 text of 16 tokens": [16],
    "4 texts, 34 tokens": [8, 9, 8, 9],
    "8 of 64": [64] * 8,
    "1 of 128": [128],
    "2 of 256": [256] * 2,
    "1 of 512": [512],
}
N_SENTENCES = 400
Tokens = npt.NDArray[np.int32]
Engine = Callable[[Sequence[Tokens]], npt.NDArray[np.float32]]


def engines() -> dict[str, Engine]:
    from model_api.compute.load_encoder import load_encoder

    found: dict[str, Engine] = {}
    for asked in (OURS, AUTO):
        encoder, reason = load_encoder(model_folder(), asked)
        if reason:
            raise SystemExit(f"int8 can't be measured here: {reason}")
        encoder.warm()
        found[asked] = partial(encoder.pooled, poolings="mean")
    return found | {PEER: _ctranslate2()}


def _ctranslate2() -> Engine:
    import ctranslate2

    folder = BUILD / f"minilm-ctranslate2-{ctranslate2.__version__}-int8"
    if not folder.exists():
        converter = ctranslate2.converters.TransformersConverter(str(model_folder()), low_cpu_mem_usage=False)
        converter.convert(str(folder), quantization="int8")
    encoder = ctranslate2.Encoder(str(folder), compute_type="int8", intra_threads=1, inter_threads=1)

    def pooled(texts: Sequence[Tokens]) -> npt.NDArray[np.float32]:
        states = np.array(encoder.forward_batch([text.tolist() for text in texts]).last_hidden_state)
        return np.stack([row[: len(text)].mean(0) for row, text in zip(states, texts, strict=True)])

    return pooled


def medians_ms(found: dict[str, Engine], texts: Sequence[Tokens], seconds: float) -> dict[str, float]:
    """Of the process's time, its engine threads included."""
    taken: dict[str, list[float]] = {name: [] for name in found}
    for engine in found.values():
        engine(texts)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(taken[OURS]) < 5:
        for name, engine in found.items():
            began = time.process_time()
            engine(texts)
            taken[name].append(1000 * (time.process_time() - began))
    return {name: statistics.median(times) for name, times in taken.items()}


def sentences() -> list[Tokens]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    lines = Path(ROOT / "scripts/training/sentiment.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines[:N_SENTENCES]]
    return [np.array(encoded.ids, np.int32) for encoded in tokenizer.encode_batch(texts)]


def main(seconds: float) -> None:
    import torch

    from model_api.compute.encoder import Encoder
    from model_api.processes.model_side.accuracy import compare

    torch.set_num_threads(1)
    found = engines()
    random = np.random.default_rng(0)
    print(f"| ms | {' | '.join(found)} | {PEER} / {OURS} | {AUTO} / {OURS} |\n|---|" + "---|" * (len(found) + 2))
    for case, lengths in CASES.items():
        texts = [random.integers(1000, 20000, length, dtype=np.int32) for length in lengths]
        ms = medians_ms(found, texts, seconds)
        row = [f"{ms[name]:.2f}" for name in found] + [f"{ms[name] / ms[OURS]:.2f}" for name in (PEER, AUTO)]
        print(f"| {case} | {' | '.join(row)} |", flush=True)
    texts = sentences()
    exact = Encoder.load(model_folder(), "float32").pooled(texts, "mean").astype(np.float64)
    print("\n| against float32 | min cosine | mean | largest difference of a similarity | order | nearest changed |")
    print("|---|---|---|---|---|---|")
    for name, engine in found.items():
        # One by one: CTranslate2's answers depend on the batch.
        vectors = np.concatenate([engine([text]) for text in texts]).astype(np.float64)
        a: Any = compare(exact, vectors, name, are_scores=False)
        shown = (f"{a.min_cosine:.5f}", f"{a.mean_cosine:.5f}", f"{a.max_similarity_difference:.4f}")
        print(f"| {name} | {' | '.join(shown)} | {a.similarity_order:.5f} | {a.nearest_changed} of {a.texts} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
