"""`python -m scripts.training.diving`: train the `diving` model on drawn videos and write down how good it is."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from scripts.training.diving.dataset import make
from scripts.training.diving.fitting import CONFIG, Recipe, Trained, fit
from scripts.training.diving.judging import TARGET_REFUSED, TARGET_SPEARMAN, measure

TRAIN_SEED, CHECK_SEED, HELD_OUT_SEED = 11, 22, 33


def save(model: Trained, folder: Path) -> None:
    """A folder that can be published: the network and its heads, without what training alone needs."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name.removeprefix("network."): value for name, value in model.state_dict().items()}
    kept = {
        name: value.contiguous()
        for name, value in tensors.items()
        if not name.startswith(("faults.", "shown.")) and not name.endswith("num_batches_tracked")
    }
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    config = CONFIG.model_dump()
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def restore(model: Trained, folder: Path) -> None:
    """What `save` wrote; the rest of the model stays as it is."""
    tensors = load_file(folder / "model.safetensors")
    heads = ("regression.", "content.")
    named = {name if name.startswith(heads) else f"network.{name}": value for name, value in tensors.items()}
    unknown = model.load_state_dict(named, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"{folder} is of another network: it has {unknown[0]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="train", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/diving"), help="folder to write (build/diving)")
    parser.add_argument("--dives", type=int, default=1000, help="dives to draw and learn from (1000)")
    parser.add_argument("--others", type=int, default=540, help="videos of something else to learn from (540)")
    parser.add_argument("--held-out", type=int, default=200, help="dives, and as many others, to judge it by (200)")
    parser.add_argument("--check", type=int, default=60, help="dives, and as many others, to look at on the way (60)")
    parser.add_argument("--begin", type=Path, metavar="FOLDER", help="the model of an earlier run, to go on from")
    for field in fields(Recipe):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help=f"({field.default})")
    arguments = parser.parse_args()
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def log(line: str) -> None:
        print(f"train: {time.monotonic() - began:5.0f} s: {line}", flush=True)

    videos = make(arguments.out / "train.frames", TRAIN_SEED, arguments.dives, arguments.others, (128, 172), log)
    check = make(arguments.out / "check.frames", CHECK_SEED, arguments.check, arguments.check, (192, 256), log)

    def look(model: Trained) -> Mapping[str, Any]:
        save(model, arguments.out / "model")
        return measure(model, check)

    torch.manual_seed(recipe.seed)
    model = Trained()
    if arguments.begin is not None:
        restore(model, arguments.begin)
    fit(model, videos, recipe, log, look)
    save(model, arguments.out / "model")
    held_out = make(arguments.out / "held-out.frames", HELD_OUT_SEED, arguments.held_out, arguments.held_out,
                    (192, 256), log)  # fmt: skip
    metrics = dict(measure(model, held_out))
    reached = metrics["spearman"] >= TARGET_SPEARMAN and metrics["wrong_content_refused"] >= TARGET_REFUSED
    run = {
        "recipe": asdict(recipe) | {"dives": arguments.dives, "others": arguments.others},
        "metrics": metrics,
        "targets_reached": reached,
        "seconds": round(time.monotonic() - began),
    }
    (arguments.out / "run.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    log(f"held out: {metrics}; targets {'reached' if reached else 'not reached'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("train: interrupted; nothing was published", file=sys.stderr)
        sys.exit(130)
