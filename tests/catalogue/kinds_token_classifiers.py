"""Token classifiers: entities by every strategy, as transformers' pipeline answers."""

from typing import Any

from tests.catalogue.building import T5, Build, change, encoder, tensors, then
from tests.catalogue.kind import TEXTS, Kind, token_classifier
from tests.catalogue.kinds_encoders import DEBERTA, DISTIL, GPT, LLAMA, ROBERTA, SEGMENT, XLMR

_NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
_LABELS = {"id2label": dict(enumerate(_NAMES)), "label2id": {name: i for i, name in enumerate(_NAMES)}}
_STRATEGIES = ("simple", "first", "average", "max")
_HARD = (
    *TEXTS,
    "Ünïcödé-words and (brackets); don't!",
    "the\tday\n\nis  good🙂bad",
    "[UNK] <unk> the [CLS] day </s>",
    "filmfilmfilm badbadbad",
)


def tagging(family: str, **config: Any) -> Build:
    return encoder(family, model_class="AutoModelForTokenClassification", **{**_LABELS, **config})


FAMILIES: dict[str, Build] = {
    "bert": tagging("bert"),
    "roberta": tagging("roberta", **ROBERTA, **SEGMENT),
    "xlm-roberta": tagging("xlm-roberta", **XLMR, **SEGMENT),
    "camembert": tagging("camembert", **{**XLMR, "tokenizer": "CamembertTokenizer"}, **SEGMENT),
    "distilbert": tagging("distilbert", **DISTIL),
    "mpnet": tagging("mpnet", tokenizer="MPNetTokenizer", max_position_embeddings=66, pad_token_id=1),
    "albert": tagging("albert", tokenizer="AlbertTokenizer", embedding_size=16, num_hidden_groups=1),
    "electra": tagging("electra", embedding_size=16),
    "deberta": tagging("deberta", tokenizer="DebertaTokenizer", **DEBERTA),
    "deberta-v2": tagging("deberta-v2", tokenizer="DebertaV2Tokenizer", **DEBERTA),
    "modernbert": tagging("modernbert", tokenizer="RobertaTokenizer", pad_token_id=1, local_attention=16),
    "t5": tagging("t5", tokenizer="T5Tokenizer", **T5),
    "gpt2": tagging("gpt2", tokenizer="GPT2Tokenizer", **GPT, pad_token_id=1),
    "llama": tagging("llama", tokenizer="GPT2Tokenizer", **LLAMA),
}
_BERT = FAMILIES["bert"]


def _kind(name: str, build: Build, **parameters: Any) -> Kind:
    return Kind(f"token classifier, {name}", build, token_classifier, parameters=parameters, inputs=_HARD)


TOKEN_CLASSIFIERS = [
    *(_kind(name, build) for name, build in FAMILIES.items()),
    *(
        _kind(f"{name}, {how}", build, aggregation_strategy=how)
        for name, build in FAMILIES.items()
        for how in _STRATEGIES[:1]
    ),
    *(
        _kind(f"{name}, {how}", FAMILIES[name], aggregation_strategy=how)
        for name in ("bert", "roberta", "xlm-roberta", "deberta-v2")
        for how in _STRATEGIES[1:]
    ),
    *(
        _kind(f"{name}, windows, {how}", FAMILIES[name], aggregation_strategy=how, stride=stride)
        for name, how, stride in (("bert", "simple", 16), ("roberta", "average", 0), ("albert", "first", 61))
    ),
    _kind("all labels shown", _BERT, aggregation_strategy="simple", ignore_labels=[]),
    _kind("other labels ignored", _BERT, aggregation_strategy="max", ignore_labels=["PER", "O"]),
    _kind("cased", tagging("bert", how={"do_lower_case": False}), aggregation_strategy="first"),
    _kind(
        "labels without B and I (parts of speech)",
        tagging("bert", id2label={0: "NOUN", 1: "VERB", 2: "B"}, label2id={"NOUN": 0, "VERB": 1, "B": 2}),
        aggregation_strategy="average",
    ),
    _kind(
        "labels with dashes",
        tagging("bert", id2label={0: "B-A-B", 1: "I-A-B"}, label2id={"B-A-B": 0, "I-A-B": 1}),
        aggregation_strategy="simple",
    ),
    Kind(
        "token classifier, without labels",
        then(_BERT, change("config.json", id2label=...)),
        refused="names no labels",
    ),
    Kind(
        "token classifier, labels that don't fit",
        then(_BERT, change("config.json", id2label={"0": "O", "1": "X"})),
        refused="id2label names 2",
    ),
    Kind(
        "token classifier, its head missing",
        then(_BERT, tensors(lambda held: {k: v for k, v in held.items() if not k.startswith("classifier")})),
        refused="classifier.weight",
    ),
    Kind(
        "token classifier, code of its own",
        then(_BERT, change("config.json", auto_map={"AutoModelForTokenClassification": "modeling_x.XTagger"})),
        refused="auto_map",
    ),
    Kind(
        "token classifier, of a sequence classifier",
        encoder("bert", model_class="AutoModelForSequenceClassification"),
        task="token-classification",
        refused="is no model for token-classification",
    ),
    Kind(
        "token classifier, without an architecture",
        then(_BERT, change("config.json", architectures=...)),
        refused="names no architecture",
    ),
    Kind(
        "token classifier, without an architecture, named",
        then(_BERT, change("config.json", architectures=...)),
        token_classifier,
        task="token-classification",
        inputs=_HARD,
    ),
]
