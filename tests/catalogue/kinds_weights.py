"""Weights: what is missing, what nobody would read, what is quantised; and code that is never run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.catalogue.building import T5, Build, change, encoder, modules, tensors, then, write
from tests.catalogue.kind import Kind, sentences

BERT = then(encoder("bert"), modules())
ALBERT = then(encoder("albert", tokenizer="AlbertTokenizer", embedding_size=16, num_hidden_groups=1), modules())
_QUERY = "encoder.layer.0.attention.self.query.weight"


def less(*parts: str) -> Build:
    """Without the tensors that have one of these in their name."""
    return tensors(lambda held: {k: v for k, v in held.items() if not any(part in k for part in parts)})


def more(**names: tuple[int, ...]) -> Build:
    return tensors(lambda held: {**held, **{name: torch.ones(shape) for name, shape in names.items()}})


def renamed(change_name: Mapping[str, str]) -> Build:
    def new(name: str) -> str:
        for old, other in change_name.items():
            name = name.replace(old, other)
        return name

    return tensors(lambda held: {new(name): tensor for name, tensor in held.items()})


def stored_as(dtype: torch.dtype, *parts: str) -> Build:
    return tensors(
        lambda held: {k: v.to(dtype) if not parts or any(p in k for p in parts) else v for k, v in held.items()}
    )


def adapter(folder: Path) -> None:
    lora = {
        f"base_model.model.{_QUERY[:-7]}.lora_{side}.weight": torch.ones(shape)
        for side, shape in (("A", (2, 32)), ("B", (32, 2)))
    }
    save_file(lora, folder / "adapter_model.safetensors")
    write("adapter_config.json", {"peft_type": "LORA", "r": 2, "base_model_name_or_path": "base"})(folder)


def _quantised(method: str, **config: Any) -> Kind:
    return Kind(
        f"quantised, {method}",
        then(BERT, change("config.json", quantization_config={"quant_method": method, **config})),
        refused=method,
    )


_RELATIVE = {"position_embedding_type": "relative_key"}

WEIGHTS = [
    Kind("a layer missing", then(BERT, less("encoder.layer.1.")), refused="encoder.layer.1."),
    Kind("the word table missing", then(BERT, less("word_embeddings")), refused="word_embeddings"),
    Kind("the pooler missing", then(BERT, less("pooler")), sentences),
    Kind("a layer missing, by transformers", then(ALBERT, less("ffn_output")), refused="ffn_output"),
    Kind("a layer too many", then(BERT, change("config.json", num_hidden_layers=1)), refused="read by no load"),
    Kind("position_ids of old releases", then(BERT, more(**{"embeddings.position_ids": (1, 64)})), sentences),
    Kind(
        "gamma and beta of TensorFlow",
        then(BERT, renamed({"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"})),
        sentences,
    ),
    Kind(
        "the prefix of a model with a head",
        then(BERT, tensors(lambda held: {f"bert.{k}": v for k, v in held.items()})),
        sentences,
    ),
    Kind(
        "LoRA inside the weights",
        then(BERT, more(**{"encoder.layer.0.attention.self.query.lora_A.weight": (2, 32)})),
        refused="lora_A",
    ),
    Kind("LoRA beside its base", then(BERT, adapter), refused="LoRA adapter"),
    Kind(
        "a scale of 8-bit floats",
        then(BERT, more(**{"encoder.layer.0.attention.self.query.weight_scale": (1,)})),
        refused="weight_scale",
    ),
    Kind(
        "8-bit floats with scales",
        then(
            BERT,
            stored_as(torch.float8_e4m3fn, "query.weight"),
            more(**{"encoder.layer.0.attention.self.query.weight_scale_inv": (1,)}),
        ),
        refused="scale",
    ),
    Kind(
        "a scale, by transformers",
        then(ALBERT, more(**{"encoder.albert_layer_groups.0.albert_layers.0.ffn.weight_scale": (1,)})),
        refused="weight_scale",
    ),
    Kind(
        "relative positions",
        then(
            encoder("bert", **_RELATIVE),
            tensors(
                lambda held: {
                    **held,
                    **{
                        f"encoder.layer.{i}.attention.self.distance_embedding.weight": torch.ones(127, 8)
                        for i in (0, 1)
                    },
                }
            ),
            modules(),
        ),
        refused="distance_embedding",
    ),
    Kind("float16", then(BERT, stored_as(torch.float16)), sentences),
    Kind("bfloat16", then(BERT, stored_as(torch.bfloat16)), sentences),
    Kind("float64", then(BERT, stored_as(torch.float64)), sentences),
    Kind("integers", then(BERT, stored_as(torch.int8, "query.weight")), refused="only floating point"),
    Kind("another width than the config's", then(BERT, change("config.json", intermediate_size=128)), refused="shape"),
    Kind(
        "another vocabulary than the config's",
        then(BERT, change("config.json", vocab_size=50)),
        refused="table has 50 rows",
    ),
    _quantised("gptq", bits=4),
    _quantised("awq", bits=4),
    _quantised("bitsandbytes", load_in_4bit=True),
    _quantised("fp8"),
    _quantised("compressed-tensors"),
    Kind(
        "code of its own",
        then(BERT, change("config.json", auto_map={"AutoModel": "modeling_x.XModel"})),
        refused="auto_map",
    ),
    Kind(
        "code of its own, as a file",
        then(BERT, lambda folder: (folder / "modeling_x.py").write_text("x")),
        refused="never run",
    ),
    Kind("a family that nobody knows", then(BERT, change("config.json", model_type="weird")), refused="transformers"),
    Kind(
        "T5, a block missing",
        then(
            encoder("t5", tokenizer="T5Tokenizer", model_class="T5ForConditionalGeneration", **T5),
            less("decoder.block.1."),
        ),
        refused="decoder.block.1.",
    ),
    Kind(
        "T5, a block missing, by transformers",
        then(
            encoder("t5", tokenizer="T5Tokenizer", model_class="T5ForConditionalGeneration", **T5),
            less("decoder.block.1."),
        ),
        refused="decoder.block.1.",
        options={"engine": "transformers"},
    ),
    Kind(
        "T5's encoder, a block missing",
        then(
            encoder("t5", tokenizer="T5Tokenizer", model_class="T5EncoderModel", **T5),
            less("encoder.block.1."),
            modules(),
        ),
        refused="encoder.block.1.",
    ),
    Kind(
        "T5, LoRA inside",
        then(
            encoder("t5", tokenizer="T5Tokenizer", model_class="T5ForConditionalGeneration", **T5),
            more(**{"encoder.block.0.layer.0.SelfAttention.q.lora_A": (2, 32)}),
        ),
        refused="lora_A",
    ),
]
