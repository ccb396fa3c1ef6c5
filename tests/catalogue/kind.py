"""What an entry of the catalogue is, and the libraries whose answers are the right ones."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Capitals, accents, scripts without spaces, spaces at the ends, what no vocabulary holds, and one text that is cut.
TEXTS: Sequence[Any] = (
    "the Film was good",
    "Not a VERY bad day! Schön, naïve café",
    "東京 and the trains",
    "  spaces   around  ",
    "x",
    "Numbers 1,234.56 & <b>signs</b>",
    "the day is good and the train was not bad, " * 12,
)
TOLERANCE = 1e-5

Reference = Callable[[Path, Sequence[Any], Mapping[str, Any]], list[Any]]


@dataclass(frozen=True)
class Kind:
    """One kind of model folder. `build` makes it; `reference` answers as its own library does, and what is served must
    equal that; or `refused` is part of what its author is told. `task` and `options` are what its author gives."""

    name: str
    build: Callable[[Path], Any]
    reference: Reference | None = None
    refused: str = ""
    task: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Any] = TEXTS

    def __post_init__(self) -> None:
        assert (self.reference is None) == bool(self.refused), self.name


def sentences(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    """sentence-transformers' vectors, each text by itself."""
    import sentence_transformers
    import torch

    model = sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    how = {"prompt": parameters.get("prompt"), "prompt_name": parameters.get("prompt_name")}
    how |= {"truncate_dim": parameters.get("dimensions"), "normalize_embeddings": bool(parameters.get("normalize"))}
    how["show_progress_bar"] = False
    return [model.encode([text], **how)[0] for text in inputs]


def bare_encoder(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    """transformers' [CLS] states: what a folder without modules.json is documented to give."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    limit = min(tokenizer.model_max_length, 64)
    with torch.inference_mode():
        made = [tokenizer(t, return_tensors="pt", truncation=True, max_length=limit) for t in inputs]
        return [model(**batch)[0][0, 0].numpy() for batch in made]


def classifier(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    """transformers' pipeline: every label's score."""
    import transformers

    pipe = transformers.pipeline("text-classification", str(folder), device="cpu", dtype="float32")
    as_it_takes = [{"text": one[0], "text_pair": one[1]} if isinstance(one, list) else one for one in inputs]
    return [sorted(pipe([one], top_k=None, truncation=True)[0], key=lambda row: row["label"]) for one in as_it_takes]


def token_classifier(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    """transformers' pipeline: every token, or every entity."""
    import transformers

    pipe = transformers.pipeline("token-classification", str(folder), device="cpu", dtype="float32")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tokenizer does not support real words")
        return [pipe(text, **parameters) for text in inputs]


def cross_encoder(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    """sentence-transformers' scores of each query with its texts, each pair by itself."""
    import sentence_transformers
    import torch

    model = sentence_transformers.CrossEncoder(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    return [[float(model.predict([(one["query"], text)])[0]) for text in one["texts"]] for one in inputs]


def continuation(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    """What transformers' generate goes on with, without an end token; of a text that is too long, after its end."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    room, new = min(tokenizer.model_max_length, 64), parameters["max_new_tokens"]
    found = []
    for text in inputs:
        ids = tokenizer(text)["input_ids"]
        ids = ids[-max(room // 2, room - new) :] if len(ids) >= room else ids
        asked = {**parameters, "max_new_tokens": min(new, room - len(ids)), "do_sample": False}
        asked.pop("temperature", None)
        with torch.inference_mode():
            row = torch.tensor([ids])
            made = model.generate(row, attention_mask=torch.ones_like(row), early_stopping=True, **asked)[0].tolist()
        ends = model.generation_config.eos_token_id
        tokens = len(made) - len(ids)
        if made[-1] in (ends if isinstance(ends, list) else [ends]):
            made = made[:-1]
        whole, before = (tokenizer.decode(part, skip_special_tokens=True) for part in (made, ids))
        found.append({"text": whole[len(before) :], "tokens": tokens})
    return found


def generated(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    """transformers' `generate` by the model's own generation_config.json, 64 tokens where that says nothing. The
    languages of a translation are told as its documentation says for each family."""
    import torch
    import transformers

    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    parameters = {**parameters}
    source, into = (parameters.pop(name, None) for name in ("src_lang", "tgt_lang"))
    pair = (getattr(model.config, "task_specific_params", None) or {}).get(f"translation_{source}_to_{into}")
    prefix = pair["prefix"] if pair else f">>{into}<< " if into and model.config.model_type == "marian" else ""
    if source is not None and hasattr(tokenizer, "src_lang"):
        tokenizer.src_lang = source
    if into is not None and model.config.model_type in ("mbart", "m2m_100"):
        code = f"__{into}__" if len(into) == 2 else into
        token = tokenizer.convert_tokens_to_ids(code)
        first = (
            "decoder_start_token_id" if isinstance(tokenizer, transformers.MBartTokenizer) else "forced_bos_token_id"
        )
        parameters[first] = token
    own, limit = model.generation_config, min(tokenizer.model_max_length, 64)
    most = parameters.get("max_new_tokens") or own.max_new_tokens or (own.max_length - 1 if own.max_length else 64)
    found = []
    for text in inputs:
        batch = {
            "input_ids": tokenizer(prefix + text, return_tensors="pt", truncation=True, max_length=limit)["input_ids"]
        }
        with torch.inference_mode():
            ids = model.generate(**batch, **{**parameters, "max_new_tokens": most})[0, 1:].tolist()
        ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        cut = len(ids) >= most and (own.forced_eos_token_id is not None or ids[-1] not in ends)
        spoken = tokenizer.decode(ids, skip_special_tokens=True).strip()
        found.append({"text": spoken, "tokens": len(ids), "finish_reason": "length" if cut else "stop"})
    return found


def difference(got: Any, wanted: Any) -> float:
    """The largest between two predictions; infinite where they aren't of one shape."""
    if isinstance(got, dict) and "finish_reason" in got:
        return 0.0 if {key: got[key] for key in wanted} == wanted else float("inf")
    if isinstance(wanted, dict):
        return _of_fields(got, wanted)
    if isinstance(wanted, list) and isinstance(got, list) and all(isinstance(one, dict) for one in wanted):
        same = len(got) == len(wanted)
        return max((_of_fields(*pair) for pair in zip(got, wanted, strict=True)), default=0.0) if same else float("inf")
    if isinstance(got, dict) and "scores" in got:
        got = got["scores"]
    if isinstance(got, dict):
        labels = sorted(got.get("labels") or [got], key=lambda one: str(one["label"]))
        same = [one["label"] for one in labels] == [one["label"] for one in wanted]
        pairs = zip(labels, wanted, strict=True) if same else ()
        return max((abs(a["score"] - b["score"]) for a, b in pairs), default=float("inf"))
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    return float(np.abs(a - b).max()) if a.shape == b.shape and np.isfinite(a).all() else float("inf")


def _of_fields(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """Of two objects: the difference of their scores, infinite where anything else differs."""
    inner = [pair.get("answers") or [] for pair in (got, wanted)]
    exact = [key for key in wanted if key not in ("score", "scores", "answers")]
    if got.keys() != wanted.keys() or len(inner[0]) != len(inner[1]) or any(got[key] != wanted[key] for key in exact):
        return float("inf")
    found = [_of_fields(*pair) for pair in zip(*inner, strict=True)]
    found += [
        float(np.abs(np.asarray(got[key], np.float64) - np.asarray(wanted[key], np.float64)).max())
        for key in ("score", "scores")
        if key in wanted
    ]
    return max(found, default=0.0)
