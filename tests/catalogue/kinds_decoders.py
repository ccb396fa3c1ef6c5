"""Decoders: what generates text, by CTranslate2 where it computes a family exactly, by transformers where not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from tests.catalogue.building import HIDDEN, POSITIONS, Build, change, save_model, save_tokenizer, tensors, then, write
from tests.catalogue.kind import Kind, continuation

_SIZES: Mapping[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
}
LLAMA: Mapping[str, Any] = {**_SIZES, "intermediate_size": 64, "num_key_value_heads": 2}
_GEMMA: Mapping[str, Any] = {**LLAMA, "head_dim": 8}
_GPT2: Mapping[str, Any] = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
_IDS: Mapping[str, Any] = {"bos_token_id": 0, "eos_token_id": 5, "pad_token_id": 1}
_ROPE: Mapping[str, Any] = {"rope_theta": 10000.0, "factor": 8.0}
_LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, **_ROPE}
_LLAMA3["original_max_position_embeddings"] = 32


def decoder(
    family: str, tokenizer: str = "GPT2Tokenizer", model_class: str = "AutoModelForCausalLM", **config: Any
) -> Build:
    def build(folder: Path) -> None:
        n_ids = save_tokenizer(folder, tokenizer)
        made = transformers.AutoConfig.for_model(family, **{"vocab_size": n_ids, **_IDS, **config})
        save_model(folder, made, model_class)

    return build


def _generates(name: str, build: Build, options: Mapping[str, Any] | None = None, **parameters: Any) -> Kind:
    asked = {"max_new_tokens": 12, "temperature": 0, **parameters}
    return Kind(name, build, continuation, options=options or {}, parameters=asked)


_PLAIN = decoder("llama", **LLAMA)
_TRANSFORMERS = {"engine": "transformers"}

DECODERS = [
    _generates("Llama", _PLAIN),
    _generates("Llama, by transformers", _PLAIN, _TRANSFORMERS),
    _generates("Llama, to the end of its positions", _PLAIN, max_new_tokens=200),
    _generates("Llama, beams", _PLAIN, num_beams=3),
    _generates("Llama, beams, by transformers", _PLAIN, _TRANSFORMERS, num_beams=3),
    _generates("Llama, a penalty on repetitions", _PLAIN, repetition_penalty=1.4),
    _generates("Llama, no repeated pairs", _PLAIN, no_repeat_ngram_size=2),
    _generates("Llama, no early end", decoder("llama", **LLAMA), min_new_tokens=9),
    _generates("Llama, tied", decoder("llama", **LLAMA, tie_word_embeddings=True)),
    _generates("Llama 3's RoPE", decoder("llama", **LLAMA, rope_parameters=_LLAMA3)),
    _generates("Llama, linear RoPE", decoder("llama", **LLAMA, rope_parameters={"rope_type": "linear", **_ROPE})),
    _generates("Llama, dynamic RoPE", decoder("llama", **LLAMA, rope_parameters={"rope_type": "dynamic", **_ROPE})),
    _generates("Llama, another activation", decoder("llama", **LLAMA, hidden_act="gelu")),
    _generates("Llama, biases", decoder("llama", **LLAMA, attention_bias=True, mlp_bias=True)),
    _generates("Llama, sentencepiece", decoder("llama", "T5Tokenizer", **{**LLAMA, "eos_token_id": 2})),
    _generates("SmolLM 3", decoder("smollm3", **LLAMA)),
    _generates("Mistral", decoder("mistral", **LLAMA, sliding_window=None)),
    _generates("Mistral, a sliding window", decoder("mistral", **LLAMA, sliding_window=8), max_new_tokens=30),
    _generates("Qwen 2", decoder("qwen2", "Qwen2Tokenizer", **LLAMA)),
    _generates("Qwen 3", decoder("qwen3", "Qwen2Tokenizer", **_GEMMA)),
    _generates("Gemma", decoder("gemma", **_GEMMA)),
    _generates("Gemma 2", decoder("gemma2", **_GEMMA, sliding_window=POSITIONS)),
    _generates("Gemma 2, a sliding window", decoder("gemma2", **_GEMMA, sliding_window=8)),
    _generates(
        "Gemma 3",
        decoder("gemma3_text", **_GEMMA, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    ),
    _generates("Phi", decoder("phi", **{**LLAMA, "num_key_value_heads": 4})),
    _generates("Phi 3", decoder("phi3", **LLAMA)),
    _generates("GPT-2", decoder("gpt2", **_GPT2)),
    _generates("GPT-2, by transformers", decoder("gpt2", **_GPT2), _TRANSFORMERS),
    _generates("GPT-NeoX", decoder("gpt_neox", **_SIZES, intermediate_size=64)),
    _generates("GPT-J", decoder("gptj", **_GPT2, rotary_dim=4)),
    _generates("OPT", decoder("opt", **_SIZES, ffn_dim=64, word_embed_proj_dim=HIDDEN)),
    _generates("BLOOM", decoder("bloom", hidden_size=HIDDEN, n_layer=2, n_head=4)),
    _generates("Falcon", decoder("falcon", hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4)),
    _generates("OLMo 2", decoder("olmo2", **LLAMA)),
    _generates("Granite", decoder("granite", **LLAMA)),
    _generates("several end tokens", then(_PLAIN, write("generation_config.json", {"eos_token_id": [5, 144, 31]}))),
    _generates(
        "no end token", then(_PLAIN, change("config.json", eos_token_id=None), write("generation_config.json", {}))
    ),
    _generates(
        "a penalty in generation_config.json",
        then(_PLAIN, change("generation_config.json", repetition_penalty=1.5, do_sample=True, top_k=3)),
    ),
    Kind(
        "a decoder's generation_config.json with more",
        then(_PLAIN, change("generation_config.json", suppress_tokens=[7])),
        refused="suppress_tokens",
    ),
    Kind(
        "a decoder, a layer missing",
        then(_PLAIN, tensors(lambda held: {k: v for k, v in held.items() if "layers.1" not in k})),
        refused="model.layers.1",
    ),
    Kind(
        "a decoder, LoRA inside",
        then(
            _PLAIN,
            tensors(
                lambda held: {
                    **held,
                    "model.layers.0.self_attn.q_proj.lora_A.weight": held["model.norm.weight"].clone(),
                }
            ),
        ),
        refused="lora_A",
    ),
    Kind(
        "a decoder as a classifier", _PLAIN, task="text-classification", refused="is no model for text-classification"
    ),
    Kind(
        "a decoder with code of its own",
        then(_PLAIN, change("config.json", auto_map={"AutoModelForCausalLM": "modeling_x.X"})),
        refused="auto_map",
    ),
]
