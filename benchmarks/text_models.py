"""A repository with a model of three tasks: minilm, a classifier on an encoder of minilm's size, and a T5-small.

The classifier's and the T5's weights are random: none better are needed for time.
"""

import shutil
from functools import cache
from pathlib import Path

from benchmarks.environments import BUILD
from benchmarks.weights import MODEL, model_folder

CLASSIFIER, SUMMARISER = "classifier", "summariser"


@cache
def text_root() -> Path:
    """The repository, made once."""
    from benchmarks import generation
    from model_api.publishing.changes import init
    from model_api.publishing.draft import draft, publish
    from model_api.repository.layout import Layout

    root, made = BUILD / "text-efs", BUILD / "text-efs.made"
    if not made.exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        init(root)
        models = (
            (MODEL, "embedding", model_folder()),
            (CLASSIFIER, "text-classification", _classifier_folder()),
            (SUMMARISER, "summarization", generation.model_folder()),
        )
        for name, task, folder in models:
            publish(Layout(root), draft(folder, name, lambda done, total: None, task), lambda done, total: None)
        made.touch()
    return root


def _classifier_folder() -> Path:
    import torch
    import transformers

    folder = BUILD / "minilm-classifier-random"
    torch.manual_seed(0)
    config = transformers.BertConfig.from_pretrained(model_folder(), num_labels=3)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder() / name, folder / name)
    return folder
