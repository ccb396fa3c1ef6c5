"""Builders of tiny models with random weights, 32 wide, of exactly one kind, saved as its own library saves it."""

import json
import shutil
import string
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, implementations, models, normalizers, pre_tokenizers, processors

HIDDEN = 32
POSITIONS = 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LETTERS = string.ascii_letters + string.digits + string.punctuation + "éüöäßïÉÜ東京的"
_WORDS = [
    "the",
    "The",
    "is",
    "was",
    "good",
    "bad",
    "day",
    "train",
    "film",
    "not",
    "very",
    "and",
    "query",
    "passage",
    "schon",
    "schön",
    "Schon",
]
_CORPUS = ["the day is good and the train was not bad", "The film was very good", "query: passage: not a day", _LETTERS]
_CORPUS += ["Schön, naïve café", "東京 and the trains", "Numbers 1,234.56 & <b>signs</b>"]
SIZES: Mapping[str, int] = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT: Mapping[str, int] = {**SIZES, "intermediate_size": 64, "max_position_embeddings": POSITIONS}
T5: Mapping[str, int] = {
    "d_model": HIDDEN,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 1,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
Build = Callable[[Path], Any]


@cache
def wordpieces() -> dict[str, int]:
    pieces = [*SPECIAL, *_LETTERS, *(f"##{c}" for c in _LETTERS), *_WORDS]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


@cache
def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Of RoBERTa's form: <s> <pad> </s> <unk> first, <mask> among them."""
    trained = implementations.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained.train_from_iterator(_CORPUS, vocab_size=330, special_tokens=special, show_progress=False)
    model = json.loads(trained._tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


@cache
def unigrams(special: tuple[str, ...] = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")) -> list[tuple[str, float]]:
    trained = implementations.SentencePieceUnigramTokenizer()
    trained.train_from_iterator(
        _CORPUS, vocab_size=160, special_tokens=list(special), unk_token="<unk>", show_progress=False
    )
    return [(piece, score) for piece, score in json.loads(trained._tokenizer.to_str())["model"]["vocab"]]


def save_tokenizer(folder: Path, name: str, max_tokens: int = POSITIONS, **how: Any) -> int:
    """Of that class of transformers; returns how many ids it gives."""
    made = getattr(transformers, name)
    if name in ("BertTokenizer", "MPNetTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "FunnelTokenizer"):
        how = {"vocab": dict(wordpieces()), **how}
    elif name in (
        "RobertaTokenizer",
        "GPT2Tokenizer",
        "Qwen2Tokenizer",
        "LEDTokenizer",
        "BartTokenizer",
        "DebertaTokenizer",
    ):
        vocab, merges = byte_pairs()
        how = {"vocab": dict(vocab), "merges": list(merges), "pad_token": "<pad>", **how}
    elif name == "NllbTokenizer":
        vocab, merges = byte_pairs()
        how = {"vocab": dict(vocab), "merges": list(merges), **how}
    elif name == "AlbertTokenizer":
        how = {"vocab": list(unigrams(("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"))), **how}
    elif name == "XLNetTokenizer":
        how = {"vocab": list(unigrams(("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>"))), **how}
    else:
        how = {"vocab": list(unigrams()), **how}
    tokenizer = made(model_max_length=max_tokens, **how)
    tokenizer.save_pretrained(folder)
    return int(max(tokenizer.get_vocab().values())) + 1


def randomize(model: Any, seed: int = 7) -> Any:
    """Weights large enough that every part of them tells."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() and parameter.ndim == 1:
                parameter.copy_(0.2 * noise + name.endswith("weight"))
            else:
                parameter.copy_(noise * (0.15 if parameter.ndim > 1 else 0.3))
    return model.eval()


def save_model(folder: Path, config: Any, model_class: str = "AutoModel", **save: Any) -> Any:
    made = getattr(transformers, model_class)
    model = made.from_config(config) if model_class.startswith("Auto") else made(config)
    randomize(model).save_pretrained(folder, **save)
    return model


def encoder(family: str, **how: Any) -> Build:
    """A model of a family with its tokenizer, both as transformers saves them. `tokenizer` and `model_class` are names
    of its classes, `how` the tokenizer's arguments; all else goes into config.json."""
    tokenizer, model_class = how.pop("tokenizer", "BertTokenizer"), how.pop("model_class", "AutoModel")
    arguments, config = how.pop("how", {}), how

    def build(folder: Path) -> None:
        n_ids = save_tokenizer(folder, tokenizer, **arguments)
        sizes = {"vocab_size": n_ids, **({} if "d_model" in config else BERT), **config}
        save_model(folder, transformers.AutoConfig.for_model(family, **sizes), model_class)

    return build


def then(*steps: Build) -> Build:
    """One after the other, in the same folder."""

    def build(folder: Path) -> None:
        for step in steps:
            step(folder)

    return build


def write(path: str, document: Any) -> Build:
    def build(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(document, ensure_ascii=False))

    return build


def change(path: str, **changes: Any) -> Build:
    """Keys of a JSON file; `...` takes one out."""

    def build(folder: Path) -> None:
        document = {**json.loads((folder / path).read_text()), **changes}
        (folder / path).write_text(json.dumps({k: v for k, v in document.items() if v is not ...}, ensure_ascii=False))

    return build


def without(*paths: str) -> Build:
    def build(folder: Path) -> None:
        for path in paths:
            (folder / path).unlink()

    return build


def tensors(edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]) -> Build:
    """Rewrite model.safetensors."""

    def build(folder: Path) -> None:
        held = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(edit(held) or held, folder / "model.safetensors", metadata={"format": "pt"})

    return build


_OLD = "sentence_transformers.models."


def modules(
    *after: tuple[str, str, Mapping[str, Any]],
    pooling: str | Sequence[str] | None = "mean",
    pooling_at: str = "1_Pooling",
    transformer_at: str = "",
    settings: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
    **pooling_config: Any,
) -> Build:
    """modules.json and what it names, as releases before 6 wrote them. `after`: (kind, folder, its config); `own`: the
    transformer's sentence_bert_config.json; `settings`: config_sentence_transformers.json."""
    flags = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "lasttoken": "lasttoken"}
    flags |= {"mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean": "weightedmean_tokens"}

    def build(folder: Path) -> None:
        if transformer_at:
            move_into(transformer_at)(folder)
        listed = [{"idx": 0, "name": "0", "path": transformer_at, "type": _OLD + "Transformer"}]
        if pooling is not None:
            on = [pooling] if isinstance(pooling, str) else pooling
            pooled: dict[str, Any] = {f"pooling_mode_{flag}": mode in on for mode, flag in flags.items()}
            listed.append({"idx": 1, "name": "1", "path": pooling_at, "type": _OLD + "Pooling"})
            write(f"{pooling_at}/config.json", {"word_embedding_dimension": HIDDEN, **pooled, **pooling_config})(folder)
        for kind, place, config in after:
            listed.append({"idx": len(listed), "name": str(len(listed)), "path": place, "type": _OLD + kind})
            (folder / place).mkdir(parents=True, exist_ok=True)
            if config:
                write(f"{place}/config.json", config)(folder)
            _save_layer(folder / place, kind, config)
        write("modules.json", listed)(folder)
        write(f"{transformer_at or '.'}/sentence_bert_config.json", {"max_seq_length": 50, **(own or {})})(folder)
        versions = {"sentence_transformers": "3.0.0", "transformers": "4.41.0", "pytorch": "2.3.0"}
        write("config_sentence_transformers.json", {"__version__": versions, **(settings or {})})(folder)

    return build


def _save_layer(folder: Path, kind: str, config: Mapping[str, Any]) -> None:
    generator = torch.Generator().manual_seed(11)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.3

    if kind == "Dense":
        n_in, n_out = config["in_features"], config["out_features"]
        held = {"linear.weight": noise(n_out, n_in)}
        if config.get("bias", True):
            held["linear.bias"] = noise(n_out)
        if config.get("use_residual") and n_in != n_out:
            held["residual.weight"] = noise(n_out, n_in)
        save_file(held, folder / "model.safetensors")
    elif kind == "LayerNorm":
        save_file(
            {"norm.weight": noise(config["dimension"]), "norm.bias": noise(config["dimension"])},
            folder / "model.safetensors",
        )


def move_into(place: str) -> Build:
    def build(folder: Path) -> None:
        (folder / place).mkdir()
        for path in list(folder.iterdir()):
            if path.name != place:
                shutil.move(path, folder / place / path.name)

    return build


def wordpiece_file(**normalizer: Any) -> Build:
    """A tokenizer.json by hand, as hub folders have them: what its class makes of it is another matter."""

    def build(folder: Path) -> None:
        vocabulary = wordpieces()
        tokenizer = Tokenizer(models.WordPiece(dict(vocabulary), unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(**{"lowercase": True, **normalizer})
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
        pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", pair, ends)
        tokenizer.add_special_tokens(SPECIAL)
        tokenizer.save(str(folder / "tokenizer.json"))

    return build
