"""Zero-shot classification: models of inference, and the caller's own labels, as transformers' pipeline answers."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.catalogue.building import Build, change, then
from tests.catalogue.kind import Kind
from tests.catalogue.kinds_classifiers import classifying
from tests.catalogue.kinds_encoders import BART, DEBERTA, DISTIL, ROBERTA, SEGMENT, XLMR


def zero_shot(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    import transformers

    pipe = transformers.pipeline("zero-shot-classification", str(folder), device="cpu", dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [pipe(text, **parameters) for text in inputs]


def judging(family: str, *names: str, **config: Any) -> Build:
    names = names or ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return classifying(family, **{**labels, **config})


FAMILIES: dict[str, Build] = {
    "bert": judging("bert"),
    "roberta": judging("roberta", **ROBERTA, **SEGMENT),
    "xlm-roberta": judging("xlm-roberta", **XLMR, **SEGMENT),
    "camembert": judging("camembert", **{**XLMR, "tokenizer": "CamembertTokenizer"}, **SEGMENT),
    "distilbert": judging("distilbert", **DISTIL),
    "mpnet": judging("mpnet", tokenizer="MPNetTokenizer", max_position_embeddings=66, pad_token_id=1),
    "albert": judging("albert", tokenizer="AlbertTokenizer", embedding_size=16, num_hidden_groups=1),
    "electra": judging("electra", embedding_size=16),
    "deberta-v2": judging("deberta-v2", tokenizer="DebertaV2Tokenizer", **DEBERTA),
    "modernbert": judging("modernbert", tokenizer="RobertaTokenizer", pad_token_id=1, local_attention=16),
    "bart": judging("bart", tokenizer="BartTokenizer", **BART),
}
_BERT = FAMILIES["bert"]
_LABELS = ["a train", "the film", "Schön"]


def _kind(name: str, build: Build, **parameters: Any) -> Kind:
    parameters = {"candidate_labels": _LABELS, **parameters}
    return Kind(f"zero-shot, {name}", build, zero_shot, task="zero-shot-classification", parameters=parameters)


ZERO_SHOT = [
    *(_kind(name, build) for name, build in FAMILIES.items()),
    _kind("bert, each by itself", _BERT, multi_label=True),
    _kind("bart, each by itself", FAMILIES["bart"], multi_label=True),
    _kind("one label", _BERT, candidate_labels=["good"]),
    _kind("a template", FAMILIES["roberta"], hypothesis_template="the {} was not bad"),
    _kind("a template that is the label", _BERT, hypothesis_template="{}"),
    _kind("entailment first", judging("bert", "entailment", "not_entailment"), multi_label=True),
    _kind("entailment in the middle", judging("bert", "neutral", "Entail", "contradiction"), multi_label=True),
    _kind(
        "two outputs", judging("deberta-v2", "entailment", "not_entailment", tokenizer="DebertaV2Tokenizer", **DEBERTA)
    ),
    Kind(
        "zero-shot, labels that don't tell",
        judging("bert", "LABEL_0", "LABEL_1", "LABEL_2"),
        task="zero-shot-classification",
        refused="which of them is entailment",
    ),
    Kind(
        "zero-shot, of token classification",
        then(_BERT, change("config.json", architectures=["BertForTokenClassification"])),
        task="zero-shot-classification",
        refused="is no model for zero-shot-classification",
    ),
    Kind(
        "zero-shot, code of its own",
        then(_BERT, change("config.json", auto_map={"AutoModelForSequenceClassification": "modeling_x.XJudge"})),
        task="zero-shot-classification",
        refused="auto_map",
    ),
]
