"""Small decoders with random weights and a chat template, as an author would save them."""

import json
from pathlib import Path
from typing import Any

import transformers

from tests.catalogue.building import byte_pairs, randomize

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('the user begins') }}{% endif %}"
    "{% for message in messages %}{{ bos_token + message['role'] + '\n' + message['content'] | trim + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token + 'assistant\n' }}{% endif %}"
)


def save_small_decoder(folder: Path, template: str | None = CHAT_TEMPLATE, positions: int = 256, **sizes: Any) -> Any:
    """A Llama with a tokenizer of bytes in pairs; returns transformers' model."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = byte_pairs()
    tokenizer = transformers.GPT2Tokenizer(
        vocab=dict(vocab), merges=list(merges), pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        model_max_length=positions,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    if template is not None:
        set_template(folder, template)
    config = transformers.LlamaConfig(
        **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, **sizes},
        num_key_value_heads=2,
        vocab_size=max(vocab.values()) + 1,
        max_position_embeddings=positions,
        bos_token_id=vocab["<s>"],
        eos_token_id=vocab["</s>"],
        pad_token_id=vocab["<pad>"],
    )
    model = randomize(transformers.LlamaForCausalLM(config))
    model.save_pretrained(folder)
    return model


def set_template(folder: Path, template: str) -> None:
    """In the place that releases before 4.50 wrote."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
