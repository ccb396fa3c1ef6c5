"""Small models with random weights, saved as a model author would save them."""

from pathlib import Path
from typing import Any

import torch
import transformers

SIZES = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 112}
VOCABULARY = 150
CONFIGS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **SIZES),
    "bert-tanh": lambda: transformers.BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=64, hidden_act="gelu_new", **SIZES
    ),
    "roberta": lambda: transformers.RobertaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5, **SIZES
    ),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=66, type_vocab_size=1, hidden_act="relu", **SIZES
    ),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=64, dim=48, n_layers=3, n_heads=4, hidden_dim=112
    ),
}


def save_small_model(family: str, folder: Path, model_class: Any = None, **save: Any) -> Any:
    """Make a `family` model with weights large enough to tell every part of it, save it and return it."""
    generator = torch.Generator().manual_seed(7)
    model = (model_class or transformers.AutoModel.from_config)(CONFIGS[family]())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower():
                parameter.copy_(0.2 * noise + name.endswith("weight"))
            else:
                parameter.copy_(noise * (0.12 if parameter.ndim == 2 else 0.3))
    model.save_pretrained(folder, **save)
    return model.eval()
