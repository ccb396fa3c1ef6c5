"""GGUF to safetensors: a decoder that llama.cpp serves, read and taken out of its quantisation by transformers."""

import json
from pathlib import Path
from typing import Any


def convert_gguf(source: Path, target: Path) -> list[str]:
    """Write the model in `source` into the folder `target`: weights in bfloat16, tokenizer, chat template. Returns
    notes. Raises what transformers raises for a file that it can't read."""
    import torch
    import transformers

    where: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, **where)
    read, notes = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, dtype=torch.bfloat16, output_loading_info=True, **where
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if notes[what]:
            raise ValueError(f"{what.replace('_', ' ')}: {sorted(map(str, notes[what]))[0]}")
    config = read.config
    del config.quantization_config
    # What was read counts as quantised, and won't be saved: its weights go into a model that doesn't.
    model = type(read)(config).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(target)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and tokenizer.model_max_length > positions:
        tokenizer.model_max_length = positions
    tokenizer.save_pretrained(target)
    made = json.loads((target / "config.json").read_text())
    made.pop("_name_or_path", None)
    (target / "config.json").write_text(json.dumps(made, indent=2) + "\n")
    count = sum(parameter.numel() for parameter in model.parameters())
    return [f"{type(model).__name__}, {count:,} weights in bfloat16"]
