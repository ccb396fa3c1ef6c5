"""Small models with random weights, saved as a model author would save them; and the real one of the demo."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

torch.set_num_threads(1)  # as in a lane

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


def save_small_t5(folder: Path, *, gated: bool = False, seed: int = 2, **sizes: int) -> Any:
    """A T5 with random weights, lively enough to end its summaries by itself now and then."""
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        num_heads=4,
        **{"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, **sizes},
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    config.task_specific_params = {"summarization": {"prefix": "sum "}}
    model = transformers.T5ForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * (0.5 if parameter.ndim == 2 else 0.2) + ("layer_norm" in name))
        # A trained model never generates its start token, which transformers counts as the first of an n-gram.
        model.lm_head.weight[1] = 0
    model.save_pretrained(folder)
    return model.eval()


def random_texts(lengths: tuple[int, ...], vocabulary: int = VOCABULARY) -> list[npt.NDArray[np.int32]]:
    """Token ids, without any special token."""
    random = np.random.default_rng(3)
    return [random.integers(2, vocabulary, n, dtype=np.int32) for n in lengths]


def by_transformers(model: Any, sequence: npt.NDArray[np.int32]) -> torch.Tensor:
    """[length, hidden] of one text as transformers computes it."""
    ids = torch.from_numpy(sequence.astype(np.int64))[None]
    with torch.inference_mode():
        states: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0]
    return states
