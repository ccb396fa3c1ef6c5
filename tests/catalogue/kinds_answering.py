"""Question answering: spans of contexts. transformers 5 has no pipeline for it any more; what that of release 4 is
documented to do is computed here from its own model's logits and its own tokenizer's windows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.catalogue.building import T5, Build, change, encoder, tensors, then
from tests.catalogue.kind import TEXTS, Kind
from tests.catalogue.kinds_encoders import BART, DEBERTA, DISTIL, ROBERTA, SEGMENT, XLMR

INPUTS: Sequence[Any] = (
    *({"question": "was the train good?", "context": text} for text in TEXTS),
    {"question": "Schön?", "context": "Schön, naïve café. " * 3 + "the train was not bad, " * 12},
    {"question": "why", "context": "filmfilmfilm (badbadbad), Ünïcödé-words\t\n don't; the day"},
)


def answering(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    import torch
    import transformers

    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    length = parameters.get("max_seq_len") or min(tokenizer.model_max_length, 384)
    stride = parameters.get("doc_stride", min(length // 2, 128))
    predictions = []
    for one in inputs:
        encoded = tokenizer(
            one["question"],
            one["context"],
            truncation="only_second",
            max_length=length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        windows = []
        for number in range(len(encoded["input_ids"])):
            row = {
                name: torch.tensor([encoded[name][number]]) for name in tokenizer.model_input_names if name in encoded
            }
            with torch.inference_mode():
                output = model(**row)
            logits = [output.start_logits[0].numpy(), output.end_logits[0].numpy()]
            owners = encoded.sequence_ids(number)
            ids = encoded["input_ids"][number]
            possible = np.array(
                [owner == 1 or i == tokenizer.cls_token_id for owner, i in zip(owners, ids, strict=True)]
            )
            windows.append((encoded.encodings[number], possible, logits))
        found = best_answers(one["context"], windows, parameters)
        predictions.append({**found[0], "answers": found} if "top_k" in parameters else found[0])
    return predictions


def best_answers(context: str, windows: Sequence[Any], parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    top_k, align = parameters.get("top_k", 1), parameters.get("align_to_words", True)
    answers: list[dict[str, Any]] = []
    null = 1.0
    for encoding, possible, logits in windows:
        begins, ends = (probabilities(side, possible) for side in logits)
        null = min(null, float(begins[0] * ends[0]))
        begins[0] = ends[0] = 0.0
        pairs = np.tril(np.triu(np.outer(begins, ends)), parameters.get("max_answer_len", 15) - 1)
        order = np.argsort(-pairs.ravel(), kind="stable")[: top_k * 2 + 10 if align else top_k]
        for begin, end in zip(*np.unravel_index(order, pairs.shape), strict=True):
            if possible[begin] and possible[end] and pairs[begin, end] > 0:
                start, stop = characters(encoding, int(begin), int(end), align)
                told = context[start:stop]
                same = [one for one in answers if one["answer"].lower() == told.lower()]
                if not same:
                    answers.append({"score": 0.0, "start": start, "end": stop, "answer": told})
                (same or answers[-1:])[0]["score"] += float(pairs[begin, end])
    if parameters.get("handle_impossible_answer"):
        answers.append({"score": null, "start": 0, "end": 0, "answer": ""})
    return sorted(answers, key=lambda one: one["score"], reverse=True)[:top_k]


def probabilities(logits: npt.NDArray[np.float32], possible: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    masked = np.where(possible, logits, np.float32(-10_000))
    powers = np.exp(masked - masked.max())
    return np.asarray(powers / powers.sum(), np.float32)


def characters(encoding: Any, begin: int, end: int, align: bool) -> tuple[int, int]:
    words = [encoding.token_to_word(place) for place in (begin, end)]
    if align and None not in words:
        return encoding.word_to_chars(words[0], 1)[0], encoding.word_to_chars(words[1], 1)[1]
    return encoding.offsets[begin][0], encoding.offsets[end][1]


def spans(family: str, **config: Any) -> Build:
    return encoder(family, model_class="AutoModelForQuestionAnswering", **config)


FAMILIES: dict[str, Build] = {
    "bert": spans("bert"),
    "roberta": spans("roberta", **ROBERTA, **SEGMENT),
    "xlm-roberta": spans("xlm-roberta", **XLMR, **SEGMENT),
    "camembert": spans("camembert", **{**XLMR, "tokenizer": "CamembertTokenizer"}, **SEGMENT),
    "distilbert": spans("distilbert", **DISTIL),
    "mpnet": spans("mpnet", tokenizer="MPNetTokenizer", max_position_embeddings=66, pad_token_id=1),
    "albert": spans("albert", tokenizer="AlbertTokenizer", embedding_size=16, num_hidden_groups=1),
    "electra": spans("electra", embedding_size=16),
    "deberta-v2": spans("deberta-v2", tokenizer="DebertaV2Tokenizer", **DEBERTA),
    "modernbert": spans("modernbert", tokenizer="RobertaTokenizer", pad_token_id=1, local_attention=16),
    "bart": spans("bart", tokenizer="BartTokenizer", **BART),
    "t5": spans("t5", tokenizer="T5Tokenizer", **T5),
    "longformer": spans("longformer", attention_window=[8, 8], sep_token_id=2, **ROBERTA),
}
_BERT = FAMILIES["bert"]


def _kind(name: str, build: Build, **parameters: Any) -> Kind:
    return Kind(f"question answering, {name}", build, answering, parameters=parameters, inputs=INPUTS)


ANSWERING = [
    *(_kind(name, build) for name, build in FAMILIES.items()),
    *(
        _kind(f"{name}, five answers, perhaps none", FAMILIES[name], top_k=5, handle_impossible_answer=True)
        for name in ("bert", "roberta", "xlm-roberta", "distilbert", "deberta-v2")
    ),
    _kind("short windows", _BERT, doc_stride=4, max_seq_len=30, top_k=3),
    _kind("windows without overlap", FAMILIES["roberta"], doc_stride=0, max_seq_len=40),
    _kind("answers of one token", _BERT, max_answer_len=1, top_k=4),
    _kind("long answers", _BERT, max_answer_len=60, top_k=2),
    _kind("parts of words", _BERT, align_to_words=False, top_k=6),
    _kind("cased", spans("bert", how={"do_lower_case": False}), top_k=2),
    Kind(
        "question answering, its head missing",
        then(_BERT, tensors(lambda held: {k: v for k, v in held.items() if not k.startswith("qa_outputs")})),
        refused="qa_outputs.weight",
    ),
    Kind(
        "question answering, code of its own",
        then(_BERT, change("config.json", auto_map={"AutoModelForQuestionAnswering": "modeling_x.XAnswers"})),
        refused="auto_map",
    ),
    Kind(
        "question answering, of a classifier",
        encoder("bert", model_class="AutoModelForSequenceClassification"),
        task="question-answering",
        refused="is no model for question-answering",
    ),
    Kind(
        "question answering, more outputs than two",
        spans("bert", num_labels=3),
        refused="qa_outputs.weight",
    ),
]
