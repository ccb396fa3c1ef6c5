"""Masked language models, as transformers' pipeline fills their masks."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.catalogue.building import Build, change, encoder, tensors, then
from tests.catalogue.kind import TEXTS, Kind, bare_encoder
from tests.catalogue.kinds_encoders import DEBERTA, DISTIL, ROBERTA, SEGMENT, XLMR

_TEXTS = (
    "the ___ was good",
    "Not a ___, bad day! Schön, naïve café",
    "東京 and ___",
    "___",
    "it isn't ___ . 1,234.56 & <b>signs</b>",
    "the ___ day is good and the train was not bad, " + "very " * 80,
)


def filled(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    import transformers

    pipe = transformers.pipeline("fill-mask", str(folder), device="cpu", dtype="float32")
    how = {name: value for name, value in parameters.items() if name != "mask"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut = {"tokenizer_kwargs": {"truncation": True}}
        return [pipe(text.replace("___", pipe.tokenizer.mask_token), **how, **cut) for text in inputs]


def masked(family: str, **config: Any) -> Build:
    return encoder(family, model_class="AutoModelForMaskedLM", **config)


def _stored_in_bfloat16(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.bfloat16() for name, tensor in held.items()}


FAMILIES: dict[str, Build] = {
    "bert": masked("bert"),
    "bert, gelu_new": masked("bert", hidden_act="gelu_new"),
    "roberta": masked("roberta", **ROBERTA, **SEGMENT),
    "xlm-roberta": masked("xlm-roberta", **XLMR, **SEGMENT),
    "camembert": masked("camembert", **{**XLMR, "tokenizer": "CamembertTokenizer"}, **SEGMENT),
    "distilbert": masked("distilbert", **DISTIL),
    "distilbert, relu": masked("distilbert", activation="relu", **DISTIL),
    "roberta, relu": masked("roberta", hidden_act="relu", **ROBERTA, **SEGMENT),
    "mpnet": masked("mpnet", tokenizer="MPNetTokenizer", max_position_embeddings=66, pad_token_id=1),
    "albert": masked("albert", tokenizer="AlbertTokenizer", embedding_size=16, num_hidden_groups=1),
    "electra": masked("electra", embedding_size=16),
    "deberta-v2": masked("deberta-v2", tokenizer="DebertaV2Tokenizer", **DEBERTA),
    "modernbert": masked("modernbert", tokenizer="RobertaTokenizer", pad_token_id=1, local_attention=16),
    "bert, untied": masked("bert", tie_word_embeddings=False),
    "bert, in bfloat16": then(masked("bert"), tensors(_stored_in_bfloat16)),
}
_BERT = FAMILIES["bert"]


def _kind(name: str, build: Build, **parameters: Any) -> Kind:
    parameters = {"mask": "___", **parameters}
    return Kind(f"fill-mask, {name}", build, filled, task="fill-mask", parameters=parameters, inputs=_TEXTS)


FILL_MASK = [
    *(_kind(name, build) for name, build in FAMILIES.items()),
    _kind("the best alone", _BERT, top_k=1),
    _kind("forty", FAMILIES["roberta"], top_k=40),
    _kind("targets", _BERT, targets=["train", "film", "schön", "trainfilm"]),
    _kind("targets, two shown", FAMILIES["roberta"], targets=["train", "Ġday", "the"], top_k=2),
    _kind("targets, sentencepiece", FAMILIES["xlm-roberta"], targets=["▁day", "day", "train"], top_k=9),
    _kind("cleans up", then(_BERT, change("tokenizer_config.json", clean_up_tokenization_spaces=True)), top_k=20),
    Kind(
        "fill-mask, the model's own mask",
        _BERT,
        filled,
        task="fill-mask",
        inputs=("the [MASK] was good", "[MASK]", "a[MASK]b"),
    ),
    Kind(
        "fill-mask, its head missing",
        then(_BERT, tensors(lambda held: {k: v for k, v in held.items() if "transform" not in k})),
        task="fill-mask",
        refused="cls.predictions.transform.dense.weight",
    ),
    Kind(
        "fill-mask, no mask token",
        encoder("bert", model_class="AutoModelForMaskedLM", tokenizer="GPT2Tokenizer"),
        task="fill-mask",
        refused="names no mask_token",
    ),
    Kind(
        "fill-mask, of a bare encoder",
        encoder("bert"),
        task="fill-mask",
        refused="is no model for fill-mask",
    ),
    Kind(
        "fill-mask, code of its own",
        then(_BERT, change("config.json", auto_map={"AutoModelForMaskedLM": "modeling_x.XModel"})),
        task="fill-mask",
        refused="auto_map",
    ),
    Kind("fill-mask, not named", _BERT, bare_encoder, inputs=TEXTS[:1]),
]
