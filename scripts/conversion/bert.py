"""BERT as Google published it, in the names that transformers gives its tensors. Every name is known, or it is told."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Of the training alone: optimizers' moments, and counters.
_OF_TRAINING = re.compile(
    r"(.*/)?(adam_[mv]|Adam|AdamWeightDecayOptimizer|LAMBOptimizer)(_\d+)?"
    r"|(.*/)?(global_step|beta[12]_power|good_steps|loss_scale|_CHECKPOINTABLE_OBJECT_GRAPH)"
)
_PLAIN = {
    "bert/embeddings/word_embeddings": "bert.embeddings.word_embeddings.weight",
    "bert/embeddings/position_embeddings": "bert.embeddings.position_embeddings.weight",
    "bert/embeddings/token_type_embeddings": "bert.embeddings.token_type_embeddings.weight",
    "cls/predictions/output_bias": "cls.predictions.bias",
    "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
    "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
    "output_weights": "classifier.weight",
    "output_bias": "classifier.bias",
}
_LAYER = re.compile(r"layer_(\d+)")
_LEAVES = {"kernel": ("weight", True), "bias": ("bias", False), "gamma": ("weight", False), "beta": ("bias", False)}


def transformers_name(name: str) -> tuple[str, bool] | None:
    """What transformers calls a variable, and whether it keeps it transposed; None for what only training needs.
    Raises KeyError for a variable that no BERT has."""
    if _OF_TRAINING.fullmatch(name):
        return None
    if name in _PLAIN:
        return _PLAIN[name], False
    *folders, leaf = name.split("/")
    if leaf not in _LEAVES or not folders or folders[0] not in ("bert", "cls"):
        raise KeyError(name)
    parts = [_LAYER.sub(r"layer.\1", folder) for folder in folders]
    return ".".join([*parts, _LEAVES[leaf][0]]), _LEAVES[leaf][1]


def transformers_config(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """config.json of bert_config.json and the tensors' shapes by their new names."""
    made = {**config, "model_type": "bert"}
    if "classifier.weight" in tensors:
        n_labels = tensors["classifier.weight"][0]
        names = {str(i): f"LABEL_{i}" for i in range(n_labels)}
        made |= {"architectures": ["BertForSequenceClassification"], "id2label": names}
        made["label2id"] = {name: int(i) for i, name in names.items()}
    elif "cls.seq_relationship.weight" in tensors:
        made["architectures"] = ["BertForPreTraining"]
    else:
        made["architectures"] = ["BertModel"]
    return made


def is_cased(vocabulary: Path) -> bool:
    """Whether the tokenizer must keep capitals: only then has its vocabulary any."""
    words = vocabulary.read_text("utf-8").splitlines()
    return any(word != word.lower() for word in words if not (word.startswith("[") and word.endswith("]")))


def write_tokenizer_config(vocabulary: Path, target: Path, max_tokens: int) -> None:
    """What neither vocab.txt nor bert_config.json says, and the tokenizer must know."""
    document = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": not is_cased(vocabulary),
        "model_max_length": max_tokens,
    }
    target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
