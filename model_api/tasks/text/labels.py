"""The names of a classifier's outputs: its config's, or those that its author gives instead."""

from collections.abc import Sequence
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.manifest import Manifest
from model_api.tasks.text.tokenization import read_json


def read_labels(folder: Path, manifest: Manifest) -> list[str]:
    """The labels in the order of the model's outputs. Raises Refused."""
    config = read_json(folder / "config.json", {})
    names = config.get("id2label")
    if "labels" in manifest.options:
        labels = manifest.options["labels"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels) or not labels:
            raise Refused("manifest.json", "labels must be a list of names")
        if isinstance(names, dict) and len(names) != len(labels):
            raise Refused("manifest.json", f"{len(labels)} labels for {len(names)} outputs")
        return labels
    if names is None:
        return [f"LABEL_{i}" for i in range(int(config.get("num_labels", 2)))]
    try:
        labels = [str(names[key]) for key in sorted(names, key=int)]
        if sorted(map(int, names)) != list(range(len(names))) or not labels:
            raise ValueError("gaps")
    except (ValueError, TypeError, AttributeError) as error:
        raise Refused("config.json", "id2label must map 0, 1, 2, ... to names") from error
    return labels


def entailment_of(labels: Sequence[str]) -> int | None:
    """The output that says that one text follows from another; None for a model of something else."""
    return next((i for i, label in enumerate(labels) if label.lower().startswith("entail")), None)
