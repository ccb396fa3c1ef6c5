"""Rerankers: CrossEncoders of old and new releases, and those that never knew the library."""

import shutil
from pathlib import Path
from typing import Any

from tests.catalogue.building import Build, change, then, write
from tests.catalogue.kind import TEXTS, Kind, cross_encoder
from tests.catalogue.kinds_classifiers import classifying
from tests.catalogue.kinds_encoders import DEBERTA, DISTIL, ROBERTA, SEGMENT, XLMR

ONE: dict[str, Any] = {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
INPUTS = (
    {"query": "is the train good?", "texts": list(TEXTS)},
    {"query": "a very long query, " * 6, "texts": list(TEXTS)},
)
IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"


def reranker(family: str, **config: Any) -> Build:
    return classifying(family, **{**ONE, **config})


def saved_by_release_6(**how: Any) -> Build:
    def build(folder: Path) -> None:
        import sentence_transformers
        import torch

        inner = folder / "model"
        inner.mkdir()
        BERT(inner)
        activation = getattr(torch.nn, how.pop("activation"))() if "activation" in how else None
        model = sentence_transformers.CrossEncoder(str(inner), device="cpu", activation_fn=activation, **how)
        model.save_pretrained(str(folder), create_model_card=False)
        shutil.rmtree(inner)

    return build


def _kind(name: str, build: Build, **more: Any) -> Kind:
    return Kind(f"reranker, {name}", build, cross_encoder, **{"inputs": INPUTS, **more})


BERT = reranker("bert")
RERANKERS = [
    _kind("bert, of release 2", then(BERT, change("config.json", sbert_ce_default_activation_function=IDENTITY))),
    _kind(
        "bert, of release 2, sigmoid", then(BERT, change("config.json", sbert_ce_default_activation_function=SIGMOID))
    ),
    _kind(
        "bert, of release 5",
        then(BERT, change("config.json", sentence_transformers={"activation_fn": IDENTITY, "version": "5.0.0"})),
    ),
    _kind(
        "bert, of release 5, sigmoid",
        then(BERT, change("config.json", sentence_transformers={"activation_fn": SIGMOID, "version": "4.1.0"})),
    ),
    _kind("bert, saved by release 6", saved_by_release_6()),
    _kind("bert, saved by release 6, Identity", saved_by_release_6(activation="Identity")),
    _kind("bert, saved by release 6, max_length", saved_by_release_6(max_length=24)),
    _kind("ms-marco, named", BERT, task="reranking"),
    _kind("xlm-roberta (bge-reranker), named", reranker("xlm-roberta", **XLMR, **SEGMENT), task="reranking"),
    _kind("roberta, named", reranker("roberta", **ROBERTA, **SEGMENT), task="reranking"),
    _kind("distilbert, named", reranker("distilbert", **DISTIL), task="reranking"),
    _kind("electra, named", reranker("electra", embedding_size=16), task="reranking"),
    _kind("albert, named", reranker("albert", tokenizer="AlbertTokenizer", embedding_size=16), task="reranking"),
    _kind("deberta-v2, named", reranker("deberta-v2", tokenizer="DebertaV2Tokenizer", **DEBERTA), task="reranking"),
    _kind(
        "modernbert, named",
        reranker("modernbert", tokenizer="RobertaTokenizer", pad_token_id=1, local_attention=16),
        task="reranking",
    ),
    Kind("reranker, another activation", saved_by_release_6(activation="Tanh"), refused="Tanh"),
    Kind(
        "reranker, NLI",
        then(classifying("bert"), change("config.json", sbert_ce_default_activation_function=IDENTITY)),
        refused="has 3 outputs",
    ),
    Kind(
        "reranker, an activation of its own",
        then(BERT, change("config.json", sentence_transformers={"activation_fn": "mine.Wave"})),
        refused="mine.Wave",
    ),
    Kind(
        "reranker, a default prompt",
        then(
            saved_by_release_6(),
            change("config_sentence_transformers.json", prompts={"q": "q: "}, default_prompt_name="q"),
        ),
        refused="default prompt",
    ),
    Kind("reranker, of an encoder", then(saved_by_release_6(), write("modules.json", [])), refused="modules.json"),
]
