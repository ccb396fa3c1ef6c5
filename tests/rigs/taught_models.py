"""Tiny BERTs that were taught a few sentences by heart, in about a second each: their answers can be shown."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

torch.set_num_threads(1)  # as in a lane; several wait for each other where other work is done too

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_STEPS = 300  # at most
_LEARNT = 0.02  # the loss
_SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


def _tokenizer(folder: Path, sentences: Sequence[str]) -> Any:
    """Whole words of the sentences, and letters for all others."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'"
    basic = transformers.BertTokenizer(vocab={piece: i for i, piece in enumerate([*_SPECIAL, *letters])})
    words = {
        word for text in sentences for word, _ in basic.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text.lower())
    }
    pieces = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *sorted(words - set(letters))]
    tokenizer = transformers.BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=128)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _teach(folder: Path, model_class: Any, tokenizer: Any, batch: Mapping[str, Any], **config: Any) -> None:
    torch.manual_seed(5)
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 128, **_SIZES}
    model = model_class(
        transformers.BertConfig(**sizes, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **config)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(_STEPS):
        loss = model(**batch).loss
        if float(loss.detach()) < _LEARNT / 2:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < _LEARNT, "it has learnt nothing"
    model.eval().save_pretrained(folder)


def _places(encoding: Any, row: int, text: str, part: str, sequence: int = 0) -> list[int]:
    """The tokens of `part` in a row of a batch."""
    start = text.index(part)
    owners = encoding.sequence_ids(row)
    spans = encoding.encodings[row].offsets
    inside = [start <= a and b <= start + len(part) and a < b for a, b in spans]
    return [i for i, owner in enumerate(owners) if owner == sequence and inside[i]]


def entities(folder: Path, sentences: Mapping[str, Mapping[str, str]]) -> None:
    """`sentences`: text to its parts with their labels (PER, LOC, ...)."""
    names = sorted({label for parts in sentences.values() for label in parts.values()})
    labels = ["O", *(f"{kind}-{name}" for name in names for kind in "BI")]
    tokenizer = _tokenizer(folder, list(sentences))
    encoding = tokenizer(list(sentences), padding=True, return_tensors="pt")
    wanted = torch.zeros_like(encoding["input_ids"])
    for row, (text, parts) in enumerate(sentences.items()):
        for part, label in parts.items():
            first, *others = _places(encoding, row, text, part)
            wanted[row, first] = labels.index(f"B-{label}")
            wanted[row, others] = labels.index(f"I-{label}")
    ids = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    _teach(folder, transformers.BertForTokenClassification, tokenizer, {**encoding, "labels": wanted}, **ids)


def answers(folder: Path, questions: Sequence[tuple[str, str, str]]) -> None:
    """`questions`: each with its context and the answer there."""
    tokenizer = _tokenizer(folder, [text for row in questions for text in row[:2]])
    asked, contexts = [row[0] for row in questions], [row[1] for row in questions]
    encoding = tokenizer(asked, contexts, padding=True, return_tensors="pt")
    places = [_places(encoding, i, context, part, 1) for i, (_, context, part) in enumerate(questions)]
    batch = {**encoding, "start_positions": torch.tensor([tokens[0] for tokens in places])}
    batch["end_positions"] = torch.tensor([tokens[-1] for tokens in places])
    _teach(folder, transformers.BertForQuestionAnswering, tokenizer, batch)


def inference(folder: Path, pairs: Sequence[tuple[str, str, str]]) -> None:
    """`pairs`: two texts, and entailment, neutral or contradiction."""
    labels = ["contradiction", "neutral", "entailment"]
    tokenizer = _tokenizer(folder, [text for row in pairs for text in row[:2]])
    encoding = tokenizer([row[0] for row in pairs], [row[1] for row in pairs], padding=True, return_tensors="pt")
    wanted = torch.tensor([labels.index(row[2]) for row in pairs])
    ids = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    _teach(folder, transformers.BertForSequenceClassification, tokenizer, {**encoding, "labels": wanted}, **ids)


def words(folder: Path, sentences: Mapping[str, str]) -> None:
    """`sentences`: a text with [MASK], and the word for it."""
    tokenizer = _tokenizer(folder, [text.replace("[MASK]", word) for text, word in sentences.items()])
    encoding = tokenizer(list(sentences), padding=True, return_tensors="pt")
    wanted = torch.full_like(encoding["input_ids"], -100)
    for row, word in enumerate(sentences.values()):
        wanted[row, encoding["input_ids"][row] == tokenizer.mask_token_id] = tokenizer.convert_tokens_to_ids(word)
    _teach(folder, transformers.BertForMaskedLM, tokenizer, {**encoding, "labels": wanted})


Teach = Callable[[Path], None]
TAUGHT: Mapping[str, tuple[str, Teach]] = {
    "entities": (
        "token-classification",
        lambda folder: entities(
            folder,
            {
                "Ada Lovelace lived in London.": {"Ada Lovelace": "PER", "London": "LOC"},
                "Paris is where Marie Curie lived.": {"Paris": "LOC", "Marie Curie": "PER"},
                "The bridge opens on Monday.": {},
            },
        ),
    ),
    "answers": (
        "question-answering",
        lambda folder: answers(
            folder,
            [
                ("When does the bridge open?", "The bridge opens on Monday, the mayor said.", "Monday"),
                ("Who said so?", "The bridge opens on Monday, the mayor said.", "the mayor"),
                ("When does the train leave?", "The train leaves at noon.", "noon"),
            ],
        ),
    ),
    "inference": (
        "text-classification",
        lambda folder: inference(
            folder,
            [
                ("A man plays the piano.", "Somebody makes music.", "entailment"),
                ("A man plays the piano.", "Nobody makes music.", "contradiction"),
                ("A man plays the piano.", "The man is old.", "neutral"),
                ("The train was late again.", "This example is travel.", "entailment"),
                ("The train was late again.", "This example is cooking.", "contradiction"),
                ("Stir the soup for an hour.", "This example is cooking.", "entailment"),
                ("Stir the soup for an hour.", "This example is travel.", "contradiction"),
            ],
        ),
    ),
    "words": (
        "fill-mask",
        lambda folder: words(
            folder,
            {
                "Paris is the [MASK] of France.": "capital",
                "The [MASK] opens on Monday.": "bridge",
                "The train was [MASK] again.": "late",
            },
        ),
    ),
}
