"""Classifiers: their heads, labels and activations, as transformers' pipeline answers."""

from typing import Any

from tests.catalogue.building import T5, Build, change, encoder, tensors, then, write
from tests.catalogue.kind import TEXTS, Kind, classifier
from tests.catalogue.kinds_encoders import BART, DEBERTA, DISTIL, GPT, LLAMA, ROBERTA, SEGMENT, XLMR

_LABELS = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}}
_CLASSIFIER = "AutoModelForSequenceClassification"


def classifying(family: str, **config: Any) -> Build:
    return encoder(family, model_class=_CLASSIFIER, **{**_LABELS, **config})


FAMILIES: dict[str, Build] = {
    "bert": classifying("bert"),
    "roberta": classifying("roberta", **ROBERTA, **SEGMENT),
    "xlm-roberta": classifying("xlm-roberta", **XLMR, **SEGMENT),
    "camembert": classifying("camembert", **{**XLMR, "tokenizer": "CamembertTokenizer"}, **SEGMENT),
    "distilbert": classifying("distilbert", **DISTIL),
    "mpnet": classifying("mpnet", tokenizer="MPNetTokenizer", max_position_embeddings=66, pad_token_id=1),
    "albert": classifying("albert", tokenizer="AlbertTokenizer", embedding_size=16, num_hidden_groups=1),
    "electra": classifying("electra", embedding_size=16),
    "deberta": classifying("deberta", tokenizer="DebertaTokenizer", **DEBERTA),
    "deberta-v2": classifying("deberta-v2", tokenizer="DebertaV2Tokenizer", **DEBERTA),
    "modernbert": classifying("modernbert", tokenizer="RobertaTokenizer", pad_token_id=1, local_attention=16),
    "modernbert, mean": classifying(
        "modernbert", tokenizer="RobertaTokenizer", pad_token_id=1, local_attention=16, classifier_pooling="mean"
    ),
    "bart": classifying("bart", tokenizer="BartTokenizer", **BART),
    "t5": classifying("t5", tokenizer="T5Tokenizer", **T5),
    "gpt2": classifying("gpt2", tokenizer="GPT2Tokenizer", **GPT, pad_token_id=1),
    "llama": classifying("llama", tokenizer="GPT2Tokenizer", **LLAMA),
    "qwen3": classifying("qwen3", tokenizer="GPT2Tokenizer", **LLAMA),
    "longformer": classifying("longformer", attention_window=[8, 8], **ROBERTA),
}
_BERT = FAMILIES["bert"]
# Single texts among pairs, in all their forms; one of which either text is cut, and one where both are.
PAIRS: list[Any] = [
    *({"text": TEXTS[0], "text_pair": text} for text in TEXTS),
    [TEXTS[-1], "is the train bad?"],
    [TEXTS[-1], TEXTS[-1]],
    {"text": TEXTS[1]},
    TEXTS[0],
]

CLASSIFIERS = [
    *(Kind(f"classifier, {name}", build, classifier) for name, build in FAMILIES.items()),
    *(Kind(f"classifier of pairs, {name}", build, classifier, inputs=PAIRS) for name, build in FAMILIES.items()),
    Kind(
        "classifier of pairs, inference",
        classifying(
            "bert",
            id2label={0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"},
            label2id={"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2},
        ),
        classifier,
        inputs=PAIRS,
    ),
    Kind(
        "classifier of pairs, one output (similarity)",
        classifying("roberta", id2label={0: "score"}, label2id={"score": 0}, **ROBERTA, **SEGMENT),
        classifier,
        inputs=PAIRS,
    ),
    Kind(
        "classifier, several labels at once", classifying("bert", problem_type="multi_label_classification"), classifier
    ),
    Kind(
        "classifier, a regression",
        classifying("bert", id2label={0: "score"}, label2id={"score": 0}, problem_type="regression"),
        classifier,
    ),
    Kind("classifier, one label", classifying("bert", id2label={0: "spam"}, label2id={"spam": 0}), classifier),
    Kind(
        "classifier, a name for its problem",
        classifying("bert", problem_type="single_label_classification"),
        classifier,
    ),
    Kind(
        "classifier, without an architecture",
        then(_BERT, change("config.json", architectures=...)),
        refused="names no architecture",
    ),
    Kind(
        "classifier, without an architecture, named",
        then(_BERT, change("config.json", architectures=...)),
        classifier,
        task="text-classification",
    ),
    Kind(
        "classifier, its head missing",
        then(_BERT, tensors(lambda held: {k: v for k, v in held.items() if not k.startswith("classifier")})),
        refused="classifier.weight",
    ),
    Kind(
        "classifier, labels that don't fit",
        then(_BERT, change("config.json", id2label={"0": "a", "1": "b"})),
        refused="id2label names 2",
    ),
    Kind("classifier, a chat template beside", then(_BERT, write("generation_config.json", {})), classifier),
    *(
        Kind(f"for another task, {architecture}", encoder("bert", model_class=architecture), refused="no task is known")
        for architecture in ("BertForMultipleChoice", "BertForNextSentencePrediction")
    ),
    Kind(
        "for another task, BertForTokenClassification named a classifier",
        encoder("bert", model_class="BertForTokenClassification"),
        refused="is no model for text-classification",
        task="text-classification",
    ),
    Kind(
        "for another task, BertLMHeadModel",
        encoder("bert", model_class="BertLMHeadModel", is_decoder=True),
        refused="no task is known",
    ),
    Kind(
        "for another task, T5Model",
        encoder("t5", tokenizer="T5Tokenizer", model_class="T5Model", **T5),
        refused="--task embedding serves its encoder",
    ),
    Kind(
        "for another task, T5Model named a summarizer",
        encoder("t5", tokenizer="T5Tokenizer", model_class="T5Model", **T5),
        refused="no model for summarization",
        task="summarization",
    ),
    Kind(
        "for another task, T5EncoderModel named a summarizer",
        encoder("t5", tokenizer="T5Tokenizer", model_class="T5EncoderModel", **T5),
        refused="no model for summarization",
        task="summarization",
    ),
    Kind(
        "SetFit",
        then(encoder("bert"), write("config_setfit.json", {"labels": ["a", "b"], "normalize_embeddings": False})),
        refused="SetFit",
    ),
    Kind("SetFit with its pickle", then(encoder("bert"), write("model_head.pkl", {})), refused="SetFit"),
]
